"""Checks of everything Flotilla depends on. Used by `flotilla doctor`."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from docker.errors import DockerException
from redis.exceptions import RedisError
from rq import Worker
from sqlalchemy.exc import SQLAlchemyError

from daemon.context import Context
from daemon.errors import OperationFailed
from daemon.mail.smtp import TemporaryFailure, check_connection
from daemon.network.deadlines import Deadline, DeadlineExceeded
from daemon.node_check import check_node, describe_free_space
from daemon.provision import provision_health
from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credentials
from daemon.registry.errors import RegistryError
from portal import data_dir
from portal.models import Node, PolledImage
from portal.paths import ROOT
from portal.rules.references import parse_reference
from portal.services import fleet_settings, leases
from portal.services.bots import nodes, overview
from portal.services.gateway import processes
from portal.services.syncs import bot_states, selection

logger = logging.getLogger(__name__)

CHECK_SECONDS = 30.0
"""Time limit of a check."""
ENGINE_SECONDS = 120.0
"""Time limit of the check of an engine, which pulls the snapshot image if it is missing."""

_MAX_BOTS_SHOWN = 5
# A check that ignores its deadline, such as one that waits for a disk, is given up this many seconds later.
_MARGIN_SECONDS = 2.0


class CheckFailed(Exception):
    """A check found a problem. The message describes it and says what to do."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        subject: what was checked.
        passed: whether there is no problem.
        detail: the state, or the problem and what to do.
    """

    subject: str
    passed: bool
    detail: str


def run_checks(context: Context) -> Iterator[CheckResult]:
    """Run all checks side by side, each with its own deadline, and yield the results in a fixed order.

    Nodes and registries are checked when the database is up to date, because it names them.
    """
    database = _RunningCheck("database", partial(_check_database, context))
    others = [
        _RunningCheck("disk", partial(_check_disk, context)),
        _RunningCheck("data folder", partial(_check_data_folder, context)),
        _RunningCheck("proxy", partial(_check_proxy, context)),
        _RunningCheck("redis", partial(_check_redis, context)),
        _RunningCheck("workers", partial(_check_workers, context)),
        _RunningCheck("mail", partial(_check_mail, context)),
    ]
    if database.wait().passed:
        others += _start_checks_of_rows(context)
    for check in [database, *others]:
        yield check.wait()


class _RunningCheck:
    """A check that runs in a thread.

    Args:
        subject: what is checked.
        check: returns the state, or raises an error.
        seconds: time limit in seconds.
    """

    def __init__(self, subject: str, check: Callable[[], str], seconds: float | None = None) -> None:
        self._subject = subject
        self._seconds = seconds or CHECK_SECONDS
        self._given_up_at = time.monotonic() + self._seconds + _MARGIN_SECONDS
        self._results: SimpleQueue[CheckResult] = SimpleQueue()
        self._result: CheckResult | None = None
        Thread(target=self._run, args=(check,), name=f"check of {subject}", daemon=True).start()

    def wait(self) -> CheckResult:
        """Wait for the result, at most until the check is given up."""
        if self._result is None:
            try:
                self._result = self._results.get(timeout=max(0.0, self._given_up_at - time.monotonic()))
            except Empty:
                self._result = CheckResult(self._subject, False, f"no result within {self._seconds:g} s")
        return self._result

    def _run(self, check: Callable[[], str]) -> None:
        self._results.put(_run_check(self._subject, check, self._seconds))


def _start_checks_of_rows(context: Context) -> Iterator[_RunningCheck]:
    yield _RunningCheck("scheduler", partial(_check_scheduler, context))
    yield _RunningCheck("gateway", partial(_check_gateway, context))
    with context.database.reading() as session:
        all_nodes = nodes.list_nodes(session)
        polled = sa.select(PolledImage.image).where(~PolledImage.asked_once)
        images = list(session.scalars(polled.order_by(PolledImage.image)))
    yield _RunningCheck("bots", partial(_check_bots, context))
    for node in all_nodes:
        yield _RunningCheck(f"engine {node.name}", partial(_check_engine, context, node), ENGINE_SECONDS)
    for registry, image in {parse_reference(image).registry: image for image in images}.items():
        yield _RunningCheck(f"registry {registry}", partial(_check_registry, context, image))


def _run_check(subject: str, check: Callable[[], str], seconds: float) -> CheckResult:
    try:
        with Deadline(seconds):
            return CheckResult(subject, True, check())
    except DeadlineExceeded:
        return CheckResult(subject, False, f"no complete answer within {seconds:g} s")
    except (CheckFailed, RegistryError, OperationFailed, DockerException, TemporaryFailure) as error:
        return CheckResult(subject, False, str(error))
    except RedisError as error:
        return CheckResult(
            subject, False, f"cannot be reached ({type(error).__name__}): check REDIS_URL or start `flotilla redis`"
        )
    except SQLAlchemyError as error:
        return CheckResult(subject, False, f"cannot be used ({type(error).__name__}): check DATABASE_URL")
    except Exception as error:
        logger.exception("the check of %s failed", subject)
        return CheckResult(subject, False, f"the check itself failed: {type(error).__name__}")


def _check_disk(context: Context) -> str:
    folder = context.settings.data_dir
    return describe_free_space(shutil.disk_usage(folder).free, str(folder))


def _check_data_folder(context: Context) -> str:
    if problem := data_dir.find_problem(context.settings):
        raise CheckFailed(problem)
    return f"only this account can open {context.settings.data_dir}"


def _check_proxy(context: Context) -> str:
    settings = context.settings
    if settings.is_on_loopback:
        return "not needed, because only this machine can reach the portal"
    if not settings.secure_cookies:
        raise CheckFailed(
            "BASE_URL is not https, so passwords cross the network unencrypted: put a TLS proxy before the portal "
            "and set BASE_URL to its address"
        )
    if not settings.trusted_proxies:
        raise CheckFailed(
            "BASE_URL is https, so a TLS proxy is expected, but TRUSTED_PROXIES is 0 and all visitors share the rate "
            "limits of its address: set TRUSTED_PROXIES to the number of proxies"
        )
    expected = f"{settings.trusted_proxies} expected, which should buffer requests"
    if settings.binds_loopback:
        return expected
    return f"{expected}; let only the proxy connect to the portal, because others could forge their address"


def _check_redis(context: Context) -> str:
    return f"running, version {context.redis.info('server')['redis_version']}"


def _check_workers(context: Context) -> str:
    number = Worker.count(connection=context.redis)
    if number == 0:
        raise CheckFailed("not running: start `flotilla worker`")
    return f"{number} processes running"


def _check_database(context: Context) -> str:
    with context.database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    if found != head:
        raise CheckFailed(
            f"at revision {found} instead of {head}: run `flask --app portal.wsgi:create_wsgi db upgrade`"
        )
    return f"up to date, at revision {found}"


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def _check_scheduler(context: Context) -> str:
    with context.database.reading() as session:
        if not leases.is_held(session, leases.SCHEDULER):
            raise CheckFailed("not running: start `flotilla scheduler`")
    return "running"


def _check_gateway(context: Context) -> str:
    if context.settings.gateway.bots_domain is None:
        return "not used: people can only open bots if BOTS_DOMAIN is set"
    with context.database.reading() as session:
        number = processes.count_alive(session)
    if number == 0:
        raise CheckFailed("not running, so no bot can be opened: start `flotilla gateway`")
    return f"{number} {'process' if number == 1 else 'processes'} running"


def _check_mail(context: Context) -> str:
    mail = context.settings.mail
    check_connection(mail)
    return f"{mail.server}:{mail.port} accepts email"


def _check_bots(context: Context) -> str:
    with context.database.reading() as session:
        addresses = selection.list_addresses(session)
        blocked = bot_states.count_blocked(session)
        down = overview.list_down(session)
    problems = [f"{bot.name} should run, but is {bot.state}: {bot.state_detail or 'no cause known'}" for bot in down]
    problems += [f"{name}: {reason}" for name, reason in provision_health.find_problems(addresses).items()]
    if blocked:
        problems.append(f"{blocked} refuse members; `flotilla sync status` shows why")
    if problems:
        shown, more = problems[:_MAX_BOTS_SHOWN], len(problems) - _MAX_BOTS_SHOWN
        raise CheckFailed("; ".join(shown) + (f"; {more} more" if more > 0 else ""))
    return f"{len(addresses)} get their members from Flotilla, and can be called"


def _check_engine(context: Context, node: Node) -> str:
    with context.database.transaction() as session:
        install = fleet_settings.get_settings(session).install_id
    return check_node(node, context.settings.snapshot_image, install)


def _check_registry(context: Context, image: str) -> str:
    credentials = Credentials.from_docker_config(context.settings.registry_config)
    client = RegistryClient(credentials, context.settings.insecure_registries)
    client.get_current_digest(parse_reference(image))
    return f"reachable, has {image}"

"""Looks at everything Flotilla depends on, and says what is wrong and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from docker.errors import DockerException
from redis.exceptions import RedisError
from rq import Worker
from sqlalchemy.exc import SQLAlchemyError

from daemon.context import Context
from daemon.engine.client import connect
from daemon.engine.labels import INSTALL_LABEL
from daemon.errors import OperationFailed
from daemon.mail.smtp import TemporaryFailure, check_connection
from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credentials
from daemon.registry.errors import RegistryError
from daemon.scheduler import LEASE
from daemon.snapshots.archives import SnapshotHelper
from portal.models import Node, PolledImage
from portal.paths import ROOT
from portal.rules.references import parse_reference
from portal.services import fleet_settings, leases
from portal.services.bots import nodes

_LEAST_FREE_BYTES = 1024**3


class CheckFailed(Exception):
    """What is wrong, and what to do about it."""


@dataclass(frozen=True)
class Finding:
    """What became of one check.

    Attributes:
        subject: what was looked at.
        well: all is as it should be.
        detail: in words.
    """

    subject: str
    well: bool
    detail: str


def run_checks(context: Context) -> Iterator[Finding]:
    """Look at one part after the other; each finding comes as soon as it is there."""
    yield _look("disk", lambda: _disk(context))
    yield _look("redis", lambda: _redis(context))
    yield _look("workers", lambda: _workers(context))
    yield _look("mail", lambda: _mail(context))
    database = _look("database", lambda: _database(context))
    yield database
    if not database.well:
        return
    yield _look("scheduler", lambda: _scheduler(context))
    with context.database.reading() as session:
        all_nodes = nodes.list_nodes(session)
        followed = sa.select(PolledImage.image).where(~PolledImage.asked_once)
        images = list(session.scalars(followed.order_by(PolledImage.image)))
    for node in all_nodes:
        yield _look(f"engine {node.name}", lambda node=node: _engine(context, node))  # type: ignore[misc]
    for registry, image in {parse_reference(image).registry: image for image in images}.items():
        yield _look(f"registry {registry}", lambda image=image: _registry(context, image))  # type: ignore[misc]


def _look(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, check())
    except (CheckFailed, RegistryError, OperationFailed, DockerException, TemporaryFailure) as error:
        return Finding(subject, False, str(error))
    except RedisError as error:
        return Finding(
            subject, False, f"no answer ({type(error).__name__}): check REDIS_URL or start `flotilla redis`"
        )
    except SQLAlchemyError as error:
        return Finding(subject, False, f"cannot be used ({type(error).__name__}): check DATABASE_URL")


def _disk(context: Context) -> str:
    folder = context.settings.data_dir
    return _room(shutil.disk_usage(folder).free, str(folder))


def _room(free: int, where: str) -> str:
    if free < _LEAST_FREE_BYTES:
        raise CheckFailed(f"only {free // 1024**2} MB are free in {where}; make room")
    return f"{free // 1024**3} GB are free in {where}"


def _redis(context: Context) -> str:
    return f"answers, version {context.redis.info('server')['redis_version']}"


def _workers(context: Context) -> str:
    number = Worker.count(connection=context.redis)
    if number == 0:
        raise CheckFailed("none is running: start `flotilla worker`")
    return f"{number} processes are running"


def _database(context: Context) -> str:
    with context.database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(_alembic()).get_current_head()
    if found != head:
        raise CheckFailed(
            f"is at revision {found} instead of {head}: run `flask --app portal.wsgi:create_wsgi db upgrade`"
        )
    return f"answers, at revision {found}"


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def _scheduler(context: Context) -> str:
    with context.database.reading() as session:
        if not leases.is_held(session, LEASE):
            raise CheckFailed("none leads: start `flotilla scheduler`")
    return "one leads"


def _mail(context: Context) -> str:
    mail = context.settings.mail
    check_connection(mail)
    return f"{mail.server}:{mail.port} takes mails"


def _engine(context: Context, node: Node) -> str:
    with context.database.transaction() as session:
        install = fleet_settings.get_settings(session).install_id
    with closing(connect(node)) as engine:
        version = engine.version()
        platform = f"{version['Os']}/{version['Arch']}"
        if platform != node.platform:
            raise CheckFailed(f"is {platform}, but the node was added as {node.platform}")
        # Without this image, and room for what it writes, no bot of the node is ever updated.
        helper = SnapshotHelper(engine, context.settings.snapshot_image, {INSTALL_LABEL: install}, f"doctor{install}")
        helper.require_image()
        room = _room(helper.free_space(node.snapshot_dir), f"{node.snapshot_dir} on the node")
    return f"answers, version {version['Version']}; takes snapshots; {room}"


def _registry(context: Context, image: str) -> str:
    credentials = Credentials.from_docker_config(context.settings.registry_config)
    client = RegistryClient(credentials, context.settings.insecure_registries)
    client.current_digest(parse_reference(image))
    return f"answers for {image}"

"""What workers run, by dotted name. Each job is a thin door: arguments are ids, the work lies behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps

from rq import get_current_job

from daemon.bots import collector, desired_state, node_probe, purge
from daemon.context import Context, current_context
from daemon.mail import sender
from daemon.registry import changelog_reader
from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credentials
from daemon.registry.poller import Poller
from daemon.update import sequence
from portal.models import utcnow
from portal.queue import JobName, enqueue
from portal.rules.allowlist import Allowlist
from portal.services import retention
from portal.services.events import current_request_id

logger = logging.getLogger(__name__)

NAMES: set[str] = set()
"""The dotted names a worker accepts."""


def _job(work: Callable[[Context, str], None]) -> Callable[[str], None]:
    """Make a function a job: known by name, its id in every log line and event.

    A job that raises is told in the log and is over. RQ would keep the traceback in Redis, where nobody looks and
    secrets have no place; and whether to try again is read from the database, not from Redis.
    """

    @wraps(work)
    def run(argument: str) -> None:
        job = get_current_job()
        token = current_request_id.set(job.id if job else None)
        try:
            logger.info("%s %s", work.__name__, argument)
            work(current_context(), argument)
        except Exception:
            logger.exception("%s %s failed", work.__name__, argument)
        finally:
            current_request_id.reset(token)

    NAMES.add(f"{work.__module__}.{work.__name__}")
    return run


@_job
def poll_image(context: Context, image: str) -> None:
    """Ask a registry what an image points at, and have the changelog of a new release read."""
    settings = context.settings
    poller = Poller(
        context.database,
        RegistryClient(Credentials.from_docker_config(settings.registry_config), settings.insecure_registries),
        Allowlist.parse(settings.fleet_image_allowlist),
        settings.poll_every,
    )
    release_id = poller.poll(image, utcnow())
    if release_id is not None:
        enqueue(context.redis, JobName.READ_CHANGELOG, release_id)


@_job
def read_changelog(context: Context, release_id: str) -> None:
    """Read a release's changelog out of its image."""
    changelog_reader.read_and_record(context.database, context.settings, release_id, utcnow())


@_job
def update_bot(context: Context, update_id: str) -> None:
    """Bring one bot to its release, or go on where a worker that died has stopped."""
    sequence.update_bot(context.database, context.settings, update_id)


@_job
def apply_desired_state(context: Context, bot_id: str) -> None:
    """Stop or start a bot, as people want it."""
    desired_state.apply_desired_state(context.database, bot_id)


@_job
def purge_bot(context: Context, bot_id: str) -> None:
    """Remove a bot of an organization that was deleted, with its data."""
    purge.purge(context.database, context.settings, bot_id)


@_job
def probe_node(context: Context, node_id: str) -> None:
    """Look at every bot of a node."""
    node_probe.probe_node(context.database, node_id)


@_job
def collect_node(context: Context, node_id: str) -> None:
    """Remove from a node what updates have left over."""
    collector.collect_node(context.database, node_id)


@_job
def send_mail(context: Context, mail_id: str) -> None:
    """Send a mail of the outbox."""
    sender.send_mail(context.database, context.settings, mail_id, utcnow())


@_job
def delete_expired(context: Context, _what: str) -> None:
    """Delete what has had its time."""
    with context.database.transaction() as session:
        retention.delete_expired(session, utcnow())

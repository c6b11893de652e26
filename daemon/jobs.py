"""The jobs that workers run, named as in `portal.queue.JobName`. Each calls the module that does the work.

A job takes one id and reads the clock once. Work that waits for an engine or a mail server records its later results
with the moments at which they are known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps

from rq import get_current_job

from daemon.alerts import sender as alert_sender
from daemon.bots import bot_logs, create, desired_state, leftover_collector, node_probe, purge, resource_use
from daemon.context import Context, current_context
from daemon.mail import sender
from daemon.provision import sync_jobs
from daemon.registry import changelog_job
from daemon.registry.client import DEADLINE_SECONDS, RegistryClient
from daemon.registry.credentials import Credentials
from daemon.registry.poller import QUICK_SECONDS, Poller
from daemon.update import sequence
from daemon.upstream import nightly
from portal.database import is_unavailable
from portal.live_readings import Reading
from portal.models import utcnow
from portal.queue import DOWNLOADS_QUEUE, POLLS_QUEUE, SLOW_POLLS_QUEUE, SYNCS_QUEUE, JobName, enqueue
from portal.rules.allowlist import Allowlist
from portal.services import retention, weekly_summary
from portal.services.events import current_request_id
from portal.services.orgs import invite_reminders
from portal.services.releases import polling

logger = logging.getLogger(__name__)

NAMES: set[str] = set()
"""Dotted names of all jobs that a worker accepts."""

_ROUTINE = {JobName.PROBE_NODE, JobName.READ_LOG, JobName.READ_LONG_LOG, JobName.READ_RESOURCE_USE}
"""Jobs that run all the time, or as long as a person watches. The log says nothing about them unless they fail."""


def _job(work: Callable[[Context, str], None]) -> Callable[[str], None]:
    """Register a function as a job and put the job's id into its log lines and events.

    Errors are logged and not raised: RQ would store the traceback, which may contain secrets, in Redis. Whether to
    retry follows from the database.
    """
    name = f"{work.__module__}.{work.__name__}"
    level = logging.DEBUG if name in _ROUTINE else logging.INFO

    @wraps(work)
    def run(argument: str) -> None:
        job = get_current_job()
        token = current_request_id.set(job.id if job else None)
        try:
            logger.log(level, "%s %s", work.__name__, argument)
            work(current_context(), argument)
        except Exception as error:
            if is_unavailable(error):
                logger.warning(
                    "%s %s stopped, because the database cannot be used (%s)",
                    work.__name__,
                    argument,
                    type(error).__name__,
                )
            else:
                logger.exception("%s %s failed", work.__name__, argument)
        finally:
            current_request_id.reset(token)

    NAMES.add(name)
    return run


@_job
def poll_image(context: Context, image: str) -> None:
    """Poll an image of a registry that was quick at its last poll."""
    _poll(context, image, slow=False)


@_job
def poll_slow_registry(context: Context, image: str) -> None:
    """Poll an image of a registry that was too slow for a quick poll."""
    _poll(context, image, slow=True)


@_job
def read_changelog(context: Context, release_id: str) -> None:
    """Read the changelog of a release from its image."""
    changelog_job.read_and_record(context.database, context.settings, release_id, utcnow())


@_job
def update_bot(context: Context, update_id: str) -> None:
    """Run the update of one bot, or continue it after its worker died."""
    sequence.update_bot(context.database, context.settings, update_id)


@_job
def create_bot(context: Context, bot_id: str) -> None:
    """Create the container of a new bot, or continue after a worker died."""
    create.create(context.database, context.settings, bot_id)


@_job
def apply_desired_state(context: Context, bot_id: str) -> None:
    """Start or stop a bot to match its desired state."""
    desired_state.apply_desired_state(context.database, bot_id)


@_job
def purge_bot(context: Context, bot_id: str) -> None:
    """Remove a bot after its grace period or that of its organization."""
    purge.purge(context.database, context.settings, bot_id, utcnow())


@_job
def probe_node(context: Context, node_id: str) -> None:
    """Check the health of a node and its bots."""
    node_probe.probe_node(context.database, node_id)


@_job
def collect_node(context: Context, node_id: str) -> None:
    """Remove leftovers of updates from a node."""
    leftover_collector.collect_node(context.database, node_id, utcnow())


@_job
def send_mail(context: Context, mail_id: str) -> None:
    """Send an email of the outbox."""
    sender.send_mail(context.database, context.settings, mail_id, utcnow())


@_job
def send_alerts(context: Context, channel_id: str) -> None:
    """Send the alerts that wait for a channel."""
    alert_sender.send_alerts(context.database, context.settings, channel_id, utcnow())


@_job
def queue_summaries(context: Context, _what: str) -> None:
    """Queue the weekly summary if it is due."""
    with context.database.transaction() as session:
        weekly_summary.queue_due(session, utcnow())


@_job
def sync_node(context: Context, node_id: str) -> None:
    """Send companies and members to the bots of a node, and continue with another job if some are left."""
    if sync_jobs.sync_node(context.database, node_id):
        enqueue(context.redis, JobName.SYNC_NODE, node_id, queue=SYNCS_QUEUE)


@_job
def sync_unanswering(context: Context, _what: str) -> None:
    """Send companies and members to the bots that did not answer last time."""
    sync_jobs.sync_unanswering(context.database)


@_job
def read_log(context: Context, bot_id: str) -> None:
    """Read the latest lines of the log of a bot for its page."""
    bot_logs.read_for_page(context.database, context.redis, bot_id, Reading.LOG)


@_job
def read_long_log(context: Context, bot_id: str) -> None:
    """Read many lines of the log of a bot for a search or a download."""
    bot_logs.read_for_page(context.database, context.redis, bot_id, Reading.LONG_LOG)


@_job
def read_resource_use(context: Context, bot_id: str) -> None:
    """Read how much CPU and memory a bot uses for its page."""
    resource_use.read_for_page(context.database, context.redis, bot_id)


@_job
def sync_upstream(context: Context, _what: str) -> None:
    """Sync the bot's fork with its upstream, if that is due."""
    nightly.sync_fork(context.database, context.settings, utcnow)


@_job
def remind_invited(context: Context, _what: str) -> None:
    """Queue reminders of invites that expire within a day."""
    with context.database.transaction() as session:
        invite_reminders.queue_reminders(session, utcnow())


@_job
def delete_expired(context: Context, _what: str) -> None:
    """Delete rows whose retention period is over, then refresh the statistics of the database."""
    with context.database.transaction() as session:
        retention.delete_expired(session, utcnow())
    context.database.refresh_statistics()


def _poll(context: Context, image: str, *, slow: bool) -> None:
    """Poll an image, then enqueue the next poll of its registry, and the reading of a new release's changelog."""
    settings = context.settings
    credentials = Credentials.from_docker_config(settings.registry_config)
    deadline = DEADLINE_SECONDS if slow else QUICK_SECONDS
    poller = Poller(
        context.database,
        RegistryClient(credentials, settings.insecure_registries, deadline=deadline),
        Allowlist.parse(settings.fleet_image_allowlist),
        settings.poll_every,
        slow,
    )
    release_id = poller.poll(image, utcnow())
    if release_id is not None:
        enqueue(context.redis, JobName.READ_CHANGELOG, release_id, queue=DOWNLOADS_QUEUE)
    with context.database.reading() as session:
        following = polling.find_following(session, image, utcnow(), slow=slow)
    if following is not None:
        job, queue = (JobName.POLL_SLOW_REGISTRY, SLOW_POLLS_QUEUE) if slow else (JobName.POLL_IMAGE, POLLS_QUEUE)
        enqueue(context.redis, job, following, queue=queue)

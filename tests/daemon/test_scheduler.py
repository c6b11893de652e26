"""The scheduler: due jobs, leader election, outages of Redis and the database, and signals."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from redis import Redis

from daemon.context import Context
from daemon.scheduler import Scheduler
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotUpdate,
    DesiredState,
    PolledImage,
    Release,
    Rollout,
    UpdateState,
    utcnow,
)
from portal.queue import (
    CREATION_RETRIES_QUEUE,
    CREATIONS_QUEUE,
    DOWNLOADS_QUEUE,
    MAIL_QUEUE,
    MAIL_RETRIES_QUEUE,
    POLLS_QUEUE,
    PROBES_QUEUE,
    SLOW_POLLS_QUEUE,
    JobName,
    connect,
    enqueue,
    open_queue,
    updates_queue_name,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.bots import nodes
from portal.services.mail import outbox
from portal.services.orgs import creation
from portal.services.rollouts import rollouts, selection
from portal.settings import Settings
from tests import factories
from tests.daemon.processes import Process, end, running, wait_until
from tests.daemon.rows import IMAGE, add_bot, add_node

NOW = utcnow()
BECAME_LEADER = "became the leader"


@dataclass
class SchedulerUnderTest:
    """A scheduler in this process, with a real database and a real Redis."""

    scheduler: Scheduler
    database: Database
    redis: Redis

    def queued_jobs(self, queue: str = "default") -> list[tuple[str, str]]:
        """Return the jobs of a queue with their arguments."""
        return [(str(job.func_name), str(job.args[0])) for job in open_queue(self.redis, queue).jobs]

    def take(self, message: tuple[str, str], queue: str = "default") -> bool:
        """Remove a message from the queue, as a worker does before it runs the job."""
        found = [
            job for job in open_queue(self.redis, queue).jobs if (str(job.func_name), str(job.args[0])) == message
        ]
        return sum(self.redis.lrem(f"rq:queue:{queue}", 0, job.id) for job in found) == 1

    def forget_markers(self) -> None:
        """Let the intervals of all jobs end."""
        markers = list(self.redis.scan_iter("flotilla:asked:*"))
        assert markers
        self.redis.delete(*markers)


@pytest.fixture
def parts(settings: Settings, database: Database, redis_url: str) -> SchedulerUnderTest:
    redis = connect(redis_url)
    return SchedulerUnderTest(Scheduler(Context(settings, database, redis)), database, redis)


def add_release(database: Database) -> Release:
    with database.transaction() as session:
        release = factories.release(session, repository=IMAGE.rpartition(":")[0], image=IMAGE, changelog=None)
        factories.polled_image(session, release, IMAGE, next_poll_at=NOW + timedelta(hours=1))
    return release


def start_rollout(database: Database, release: Release) -> Rollout:
    with database.transaction() as session:
        rollout_request = selection.RolloutRequest(
            release=session.merge(release),
            strategy=StrategyName.IMMEDIATE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        return rollouts.start_rollout(
            session, Allowlist.parse(["registry.test"]), rollout_request, utcnow(), actor=None
        )


def load_updates(database: Database, rollout: Rollout) -> list[BotUpdate]:
    with database.reading() as session:
        return list(session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout.id)))


def test_due_jobs_are_enqueued_once_per_interval(parts: SchedulerUnderTest) -> None:
    node = add_node(parts.database)
    add_bot(parts.database, node)

    for second in range(5):
        assert parts.scheduler.tick(NOW + timedelta(seconds=second))

    assert sorted(parts.queued_jobs()) == [
        ("daemon.jobs.collect_node", node.id),
        ("daemon.jobs.delete_expired", "old rows"),
        ("daemon.jobs.queue_summaries", "weekly"),
    ]
    assert parts.queued_jobs(PROBES_QUEUE) == [("daemon.jobs.probe_node", node.id)]
    assert parts.queued_jobs(POLLS_QUEUE) == [("daemon.jobs.poll_image", IMAGE)]


def test_jobs_are_enqueued_again_after_redis_lost_its_data(parts: SchedulerUnderTest) -> None:
    add_bot(parts.database, add_node(parts.database))
    parts.scheduler.tick(NOW)
    before = parts.queued_jobs()
    parts.redis.flushall()

    parts.scheduler.tick(NOW)

    assert parts.queued_jobs() == before


def test_waiting_message_is_not_enqueued_a_second_time(parts: SchedulerUnderTest) -> None:
    add_bot(parts.database, add_node(parts.database))
    parts.scheduler.tick(NOW)
    before = parts.queued_jobs()
    parts.forget_markers()  # as when the messages wait for longer than the interval

    parts.scheduler.tick(NOW)

    assert parts.queued_jobs() == before


def test_interval_begins_when_a_worker_takes_the_message(parts: SchedulerUnderTest) -> None:
    node = add_node(parts.database)
    parts.scheduler.tick(NOW)
    parts.forget_markers()
    parts.scheduler.tick(NOW)

    assert parts.take(("daemon.jobs.probe_node", node.id), PROBES_QUEUE)
    parts.scheduler.tick(NOW)

    assert ("daemon.jobs.probe_node", node.id) not in parts.queued_jobs(PROBES_QUEUE)


def test_message_of_a_dead_worker_is_enqueued_again_after_the_interval(parts: SchedulerUnderTest) -> None:
    node = add_node(parts.database)
    parts.scheduler.tick(NOW)
    assert parts.take(("daemon.jobs.probe_node", node.id), PROBES_QUEUE)
    parts.forget_markers()

    parts.scheduler.tick(NOW)

    assert ("daemon.jobs.probe_node", node.id) in parts.queued_jobs(PROBES_QUEUE)


def test_message_of_the_portal_is_not_enqueued_again_by_the_scheduler(parts: SchedulerUnderTest) -> None:
    with parts.database.transaction() as session:
        mail = outbox.queue_mail(session, to="a@example.com", template="signup", dedupe_key="one", context={})
    message = ("daemon.jobs.send_mail", mail.id)

    for _ in range(2):
        enqueue(parts.redis, JobName.SEND_MAIL, mail.id, queue=MAIL_QUEUE)
    parts.scheduler.tick(utcnow())

    assert parts.queued_jobs(MAIL_QUEUE) == [message]
    assert parts.take(message, MAIL_QUEUE)
    parts.scheduler.tick(utcnow())  # the worker has not claimed the mail yet
    assert parts.queued_jobs(MAIL_QUEUE) == []


def test_later_attempts_to_send_emails_have_a_queue_of_their_own(parts: SchedulerUnderTest) -> None:
    with parts.database.transaction() as session:
        new, repeated = (factories.mail(session, attempts=attempts).id for attempts in range(2))

    parts.scheduler.tick(utcnow())

    assert parts.queued_jobs(MAIL_QUEUE) == [("daemon.jobs.send_mail", new)]
    assert parts.queued_jobs(MAIL_RETRIES_QUEUE) == [("daemon.jobs.send_mail", repeated)]


def test_slow_registries_have_a_queue_of_their_own(parts: SchedulerUnderTest) -> None:
    other = "other.example/bot:stable"
    with parts.database.transaction() as session:
        session.add_all(
            [
                PolledImage(image=IMAGE, next_poll_at=NOW),
                PolledImage(image=other, next_poll_at=NOW),
                # Another image of the same registry was slow.
                PolledImage(image=f"{IMAGE.rpartition(':')[0]}:other", is_slow=True),
            ]
        )

    parts.scheduler.tick(NOW)

    assert parts.queued_jobs(SLOW_POLLS_QUEUE) == [("daemon.jobs.poll_slow_registry", IMAGE)]
    assert parts.queued_jobs(POLLS_QUEUE) == [("daemon.jobs.poll_image", other)]


def test_message_for_a_running_job_survives_the_end_of_that_job(parts: SchedulerUnderTest) -> None:
    """RQ deletes the data of a job when it ends. The message that arrived since then must keep its own."""
    enqueue(parts.redis, JobName.POLL_IMAGE, IMAGE)
    (running,) = open_queue(parts.redis).jobs
    assert parts.take(("daemon.jobs.poll_image", IMAGE))
    enqueue(parts.redis, JobName.POLL_IMAGE, IMAGE)

    running.delete(remove_from_queue=False)

    assert parts.queued_jobs() == [("daemon.jobs.poll_image", IMAGE)]


def test_changelogs_wait_for_an_active_node(parts: SchedulerUnderTest) -> None:
    release = add_release(parts.database)
    parts.scheduler.tick(NOW)
    assert parts.queued_jobs(DOWNLOADS_QUEUE) == []

    add_node(parts.database)
    parts.scheduler.tick(NOW)

    assert parts.queued_jobs(DOWNLOADS_QUEUE) == [("daemon.jobs.read_changelog", release.id)]


def test_updates_are_enqueued_in_the_queue_of_their_node(parts: SchedulerUnderTest) -> None:
    node = add_node(parts.database)
    bot = add_bot(parts.database, node)
    rollout = start_rollout(parts.database, add_release(parts.database))

    for second in range(3):
        parts.scheduler.tick(NOW + timedelta(seconds=second))

    (update,) = load_updates(parts.database, rollout)
    assert update.bot_id == bot.id
    assert parts.queued_jobs(updates_queue_name(node.id)) == [("daemon.jobs.update_bot", update.id)]


def test_new_organization_gets_its_bot_in_the_next_tick(settings: Settings, parts: SchedulerUnderTest) -> None:
    allowed = replace(settings, fleet_image_allowlist=("registry.test",))
    scheduler = Scheduler(Context(allowed, parts.database, parts.redis))
    with parts.database.transaction() as session:
        factories.node(session)
        factories.bot_template(session, image=IMAGE, create_for_new_orgs=True)
        creation.create_org(session, "Beta", factories.user(session), now=NOW)
    assert scheduler.tick(utcnow())
    with parts.database.reading() as session:
        bot = session.scalars(sa.select(Bot)).one()
    assert parts.queued_jobs(CREATIONS_QUEUE) == [(JobName.CREATE_BOT, bot.id)]


def test_repeated_creations_have_another_queue_and_those_on_unreachable_nodes_wait(
    parts: SchedulerUnderTest,
) -> None:
    reachable, unreachable = add_node(parts.database, "reachable"), add_node(parts.database, "unreachable")
    first, repeated = (add_bot(parts.database, reachable, name=name).id for name in ("first", "repeated"))
    add_bot(parts.database, unreachable, name="waiting")
    with parts.database.transaction() as session:
        new = {"phase": BotPhase.CREATING, "container_id": None, "creation_due_at": NOW}
        session.execute(sa.update(Bot).values(**new))
        session.get_one(Bot, repeated).creation_attempts = 1
        nodes.record_no_answer(session, unreachable.id, "no route to host")

    parts.scheduler.tick(NOW)

    assert parts.queued_jobs(CREATIONS_QUEUE) == [(JobName.CREATE_BOT, first)]
    assert parts.queued_jobs(CREATION_RETRIES_QUEUE) == [(JobName.CREATE_BOT, repeated)]


def test_unreachable_node_is_probed_less_often_and_gets_no_other_jobs(parts: SchedulerUnderTest) -> None:
    unreachable, reachable = add_node(parts.database), add_node(parts.database, "two")
    updated = [add_bot(parts.database, node, name=f"updated-on-{node.name}").id for node in (unreachable, reachable)]
    start_rollout(parts.database, add_release(parts.database))
    stopped = [add_bot(parts.database, node, name=f"stopped-on-{node.name}").id for node in (unreachable, reachable)]
    with parts.database.transaction() as session:
        nodes.record_no_answer(session, unreachable.id, "no route to host")
        running_updates = sa.update(BotUpdate).where(BotUpdate.bot_id.in_(updated))
        session.execute(running_updates.values(state=UpdateState.RUNNING))
        session.execute(sa.update(Bot).where(Bot.id.in_(stopped)).values(desired_state=DesiredState.STOPPED))

    parts.scheduler.tick(NOW)

    intervals = {
        node.id: parts.redis.ttl(f"flotilla:asked:daemon.jobs.probe_node:{node.id}")
        for node in (unreachable, reachable)
    }
    assert intervals[unreachable.id] > 15 >= intervals[reachable.id] > 0
    assert ("daemon.jobs.collect_node", unreachable.id) not in parts.queued_jobs()
    assert parts.queued_jobs(updates_queue_name(unreachable.id)) == []
    jobs = ["daemon.jobs.update_bot", "daemon.jobs.apply_desired_state"]
    assert [job for job, _ in parts.queued_jobs(updates_queue_name(reachable.id))] == jobs

    with parts.database.transaction() as session:
        nodes.record_answer(session, unreachable.id, NOW)
    parts.scheduler.tick(NOW)

    assert [job for job, _ in parts.queued_jobs(updates_queue_name(unreachable.id))] == jobs


def test_queue_length_is_limited(parts: SchedulerUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.queue.MAX_QUEUE_LENGTH", 3)
    for number in range(5):
        add_node(parts.database, f"node-{number}")

    parts.scheduler.tick(NOW)

    assert len(parts.queued_jobs(PROBES_QUEUE)) == 3


def test_scheduler_continues_without_redis_and_warns_once(
    settings: Settings, database: Database, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    add_bot(database, add_node(database))
    rollout = start_rollout(database, add_release(database))
    redis = connect(f"unix://{tmp_path}/missing.sock")
    scheduler = Scheduler(Context(settings, database, redis))

    for _ in range(3):
        assert scheduler.tick(NOW)

    assert [update.wave for update in load_updates(database, rollout)] == [1]
    assert len([record for record in caplog.records if "Redis cannot be reached" in record.message]) == 1


def test_only_one_of_two_schedulers_leads(parts: SchedulerUnderTest, settings: Settings) -> None:
    other = Scheduler(Context(settings, parts.database, parts.redis))

    assert parts.scheduler.tick(NOW)
    assert not other.tick(NOW)
    assert parts.scheduler.tick(NOW)
    parts.scheduler.step_down()
    assert other.tick(NOW)
    assert not parts.scheduler.tick(NOW)


@dataclass
class Running:
    """A scheduler process and its log."""

    process: Process
    log: Path

    def has_logged(self, text: str) -> bool:
        """Return whether the log contains a text."""
        return text in self.log.read_text()


@contextmanager
def scheduling(log: Path) -> Iterator[Running]:
    with running("daemon.cli", "scheduler", log=log) as process:
        yield Running(process, log)
        print(log.read_text())  # noqa: T201 - shown when a test fails


@pytest.fixture
def environment(settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)


@pytest.mark.processes
@pytest.mark.usefixtures("environment")
def test_another_scheduler_takes_over_when_the_leader_is_killed(tmp_path: Path) -> None:
    with scheduling(tmp_path / "one") as one:
        wait_until(lambda: one.has_logged(BECAME_LEADER), "the first leads")
        with scheduling(tmp_path / "two") as two:
            wait_until(lambda: two.has_logged("started"), "the second has started")
            assert not two.has_logged(BECAME_LEADER)

            one.process.kill()

            wait_until(lambda: two.has_logged(BECAME_LEADER), "the second leads")


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_sigterm_stops_the_scheduler_and_releases_the_lease(tmp_path: Path, parts: SchedulerUnderTest) -> None:
    with scheduling(tmp_path / "one") as one:
        wait_until(lambda: one.has_logged(BECAME_LEADER), "it leads")
        assert not parts.scheduler.tick(NOW)

        assert end(one.process) == 0

        assert parts.scheduler.tick(NOW)


@pytest.mark.processes
@pytest.mark.usefixtures("environment")
def test_scheduler_waits_for_a_missing_database(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("moves the file of an SQLite database away")
    database.dispose()
    file = tmp_path / "flotilla.db"
    away = tmp_path / "away.db"
    shutil.move(file, away)
    file.mkdir()  # a folder cannot be opened as a database
    with scheduling(tmp_path / "one") as one:
        wait_until(lambda: one.has_logged("the database cannot be used"), "the outage is logged")
        file.rmdir()
        shutil.move(away, file)

        wait_until(lambda: one.has_logged(BECAME_LEADER), "it leads")
        assert one.process.poll() is None

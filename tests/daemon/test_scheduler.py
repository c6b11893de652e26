"""The scheduler: what it asks for, who of several leads, and what outages and signals do to it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    BotUpdate,
    DesiredState,
    PolledImage,
    Release,
    Rollout,
    StrategyName,
    UpdateState,
    utcnow,
)
from portal.queue import connect, open_queue, updates_queue_name
from portal.rules.allowlist import Allowlist
from portal.services.bots import nodes
from portal.services.rollouts import rollouts, selection
from portal.settings import Settings
from tests.daemon.processes import Process, end, running, wait_until
from tests.daemon.rows import IMAGE, add_bot, add_node

NOW = utcnow()
LEADS = "leading from now on"


@dataclass
class Bench:
    """A scheduler in this process, with real parts."""

    scheduler: Scheduler
    database: Database
    redis: Redis

    def asked(self, queue: str = "default") -> list[tuple[str, str]]:
        """What waits in a queue: jobs and their arguments."""
        return [(str(job.func_name), str(job.args[0])) for job in open_queue(self.redis, queue).jobs]


@pytest.fixture
def bench(settings: Settings, database: Database, redis_url: str) -> Bench:
    redis = connect(redis_url)
    return Bench(Scheduler(Context(settings, database, redis)), database, redis)


def add_release(database: Database) -> Release:
    with database.transaction() as session:
        release = Release(repository=IMAGE.rpartition(":")[0], image=IMAGE, digest="sha256:" + 64 * "a")
        session.add(release)
        session.flush()
        session.add(PolledImage(image=IMAGE, release_id=release.id, next_poll_at=NOW + timedelta(hours=1)))
    return release


def start_rollout(database: Database, release: Release) -> Rollout:
    with database.transaction() as session:
        rollout_request = selection.RolloutRequest(
            release=session.merge(release),
            strategy=StrategyName.IMMEDIATE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        return rollouts.start_rollout(session, Allowlist.parse(["registry.test"]), rollout_request, actor=None)


def updates_of_rollout(database: Database, rollout: Rollout) -> list[BotUpdate]:
    with database.reading() as session:
        return list(session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout.id)))


def test_due_images_and_nodes_are_asked_for_but_not_every_second(bench: Bench) -> None:
    node = add_node(bench.database)
    add_bot(bench.database, node)

    for second in range(5):
        assert bench.scheduler.turn(NOW + timedelta(seconds=second))

    assert sorted(bench.asked()) == [
        ("daemon.jobs.collect_node", node.id),
        ("daemon.jobs.poll_image", IMAGE),
        ("daemon.jobs.probe_node", node.id),
        ("daemon.jobs.delete_expired", "old rows"),
    ]


def test_when_redis_lost_everything_it_is_asked_for_again(bench: Bench) -> None:
    add_bot(bench.database, add_node(bench.database))
    bench.scheduler.turn(NOW)
    before = bench.asked()
    bench.redis.flushall()

    bench.scheduler.turn(NOW)

    assert bench.asked() == before


def test_changelogs_wait_for_a_node_that_can_read_them(bench: Bench) -> None:
    release = add_release(bench.database)
    bench.scheduler.turn(NOW)
    assert ("daemon.jobs.read_changelog", release.id) not in bench.asked()

    add_node(bench.database)
    bench.scheduler.turn(NOW)

    assert ("daemon.jobs.read_changelog", release.id) in bench.asked()


def test_updates_go_to_the_queue_of_their_node(bench: Bench) -> None:
    node = add_node(bench.database)
    bot = add_bot(bench.database, node)
    rollout = start_rollout(bench.database, add_release(bench.database))

    for second in range(3):
        bench.scheduler.turn(NOW + timedelta(seconds=second))

    (update,) = updates_of_rollout(bench.database, rollout)
    assert update.bot_id == bot.id
    assert bench.asked(updates_queue_name(node.id)) == [("daemon.jobs.update_bot", update.id)]


def test_a_silent_node_is_asked_less_often_and_for_nothing_else(bench: Bench) -> None:
    silent, well = add_node(bench.database), add_node(bench.database, "two")
    updated = [add_bot(bench.database, node, name=f"updated-on-{node.name}").id for node in (silent, well)]
    start_rollout(bench.database, add_release(bench.database))
    stopped = [add_bot(bench.database, node, name=f"stopped-on-{node.name}").id for node in (silent, well)]
    with bench.database.transaction() as session:
        nodes.record_no_answer(session, silent.id, "no route to host")
        abandoned = sa.update(BotUpdate).where(BotUpdate.bot_id.in_(updated))
        session.execute(abandoned.values(state=UpdateState.RUNNING))
        session.execute(sa.update(Bot).where(Bot.id.in_(stopped)).values(desired_state=DesiredState.STOPPED))

    bench.scheduler.turn(NOW)

    waits = {node.id: bench.redis.ttl(f"flotilla:asked:daemon.jobs.probe_node:{node.id}") for node in (silent, well)}
    assert waits[silent.id] > 15 >= waits[well.id] > 0
    assert ("daemon.jobs.collect_node", silent.id) not in bench.asked()
    assert bench.asked(updates_queue_name(silent.id)) == []
    jobs = ["daemon.jobs.update_bot", "daemon.jobs.apply_desired_state"]
    assert [job for job, _ in bench.asked(updates_queue_name(well.id))] == jobs

    with bench.database.transaction() as session:
        nodes.record_answer(session, silent.id, NOW)
    bench.scheduler.turn(NOW)

    assert [job for job, _ in bench.asked(updates_queue_name(silent.id))] == jobs


def test_a_queue_nobody_works_off_is_not_made_longer_without_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.scheduler._LONGEST_QUEUE", 3)
    for number in range(5):
        add_node(bench.database, f"node-{number}")

    bench.scheduler.turn(NOW)

    assert len(bench.asked()) == 3


def test_without_redis_it_goes_on_and_warns_once(
    settings: Settings, database: Database, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    add_bot(database, add_node(database))
    rollout = start_rollout(database, add_release(database))
    redis = connect(f"unix://{tmp_path}/nobody.sock")
    scheduler = Scheduler(Context(settings, database, redis))

    for _ in range(3):
        assert scheduler.turn(NOW)

    assert [update.wave for update in updates_of_rollout(database, rollout)] == [1]
    assert len([record for record in caplog.records if "Redis cannot be reached" in record.message]) == 1


def test_of_two_in_one_moment_one_leads(bench: Bench, settings: Settings) -> None:
    other = Scheduler(Context(settings, bench.database, bench.redis))

    assert bench.scheduler.turn(NOW)
    assert not other.turn(NOW)
    assert bench.scheduler.turn(NOW)
    bench.scheduler.step_down()
    assert other.turn(NOW)
    assert not bench.scheduler.turn(NOW)


@dataclass
class Running:
    """A scheduler process and what it logs."""

    process: Process
    log: Path

    def says(self, words: str) -> bool:
        """Whether the log has these words."""
        return words in self.log.read_text()


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
def test_another_takes_over_when_the_leader_is_killed(tmp_path: Path) -> None:
    with scheduling(tmp_path / "one") as one:
        wait_until(lambda: one.says(LEADS), "the first leads")
        with scheduling(tmp_path / "two") as two:
            wait_until(lambda: two.says("starts"), "the second runs")
            assert not two.says(LEADS)

            one.process.kill()

            wait_until(lambda: two.says(LEADS), "the second leads")


@pytest.mark.usefixtures("environment")
def test_sigterm_ends_it_and_gives_the_lead_away(tmp_path: Path, bench: Bench) -> None:
    with scheduling(tmp_path / "one") as one:
        wait_until(lambda: one.says(LEADS), "it leads")
        assert not bench.scheduler.turn(NOW)

        assert end(one.process) == 0

        assert bench.scheduler.turn(NOW)


@pytest.mark.processes
@pytest.mark.usefixtures("environment")
def test_without_a_database_it_waits_for_one(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("takes away the file of the database")
    database.dispose()
    file = tmp_path / "flotilla.db"
    away = tmp_path / "away.db"
    shutil.move(file, away)
    file.mkdir()  # a folder in its place cannot be opened as a database
    with scheduling(tmp_path / "one") as one:
        wait_until(lambda: one.says("the database cannot be used"), "it misses the database")
        file.rmdir()
        shutil.move(away, file)

        wait_until(lambda: one.says(LEADS), "it leads")
        assert one.process.poll() is None

"""The worker process: real RQ workers, real Redis, real signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from redis.exceptions import RedisError

from portal.database import Database
from portal.models import Node
from portal.queue import DEFAULT_QUEUE, JobName, connect, enqueue, open_queue, updates_queue_name
from portal.settings import Settings
from tests.daemon.processes import Process, end, is_alive, running, wait_until
from tests.daemon.rows import add_node
from tests.daemon.work_for_tests import PREFIX

pytestmark = pytest.mark.processes

GENEROUS = "60"


@dataclass
class Work:
    """A worker process and what it was given to do."""

    process: Process
    redis: Redis
    folder: Path
    given: int = 0

    def note(self, queue: str = DEFAULT_QUEUE) -> Path:
        """Enqueue a job that leaves the file returned."""
        self.given += 1
        file = self.folder / f"note-{self.given}"
        assert enqueue(self.redis, cast("JobName", f"{PREFIX}.note"), str(file), queue=queue)
        return file

    def long_work(self, queue: str = DEFAULT_QUEUE) -> Path:
        """Enqueue a long job and wait until it works; it ends when `go` appears in the folder returned."""
        self.given += 1
        folder = self.folder / f"work-{self.given}"
        folder.mkdir()
        assert enqueue(self.redis, cast("JobName", f"{PREFIX}.long_work"), str(folder), queue=queue)
        wait_until((folder / "pids").exists, "the job works")
        return folder

    def does(self, file: Path) -> None:
        """Wait for a note."""
        wait_until(file.exists, f"{file.name} is done")


def pids(folder: Path) -> tuple[int, int]:
    """The processes of a long job and of its worker."""
    job, worker = (folder / "pids").read_text().split()
    return int(job), int(worker)


@contextmanager
def working(redis_url: str, folder: Path, grace: str = GENEROUS) -> Iterator[Work]:
    with (
        connect(redis_url) as redis,
        running("tests.daemon.work_for_tests", grace, log=folder / "log") as process,
    ):
        yield Work(process, redis, folder)
        print((folder / "log").read_text())  # noqa: T201 - shown when a test fails


@pytest.fixture
def node(database: Database) -> Node:
    return add_node(database)


@pytest.fixture
def work(settings: Settings, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("WORKER_PROCESSES", "2")
    with working(redis_url, tmp_path) as work:
        yield work


def test_long_updates_do_not_hold_up_the_default_queue(node: Node, work: Work) -> None:
    work.long_work(updates_queue_name(node.id))

    work.does(work.note())


def test_a_node_added_later_is_served(database: Database, work: Work) -> None:
    work.does(work.note())

    node = add_node(database, "later")

    work.does(work.note(updates_queue_name(node.id)))


def test_a_message_that_names_no_job_of_ours_runs_nothing(work: Work) -> None:
    victim = work.folder / "victim"
    enqueue(work.redis, cast("JobName", "os.mkdir"), str(victim))
    work.does(work.note())
    work.does(work.note())

    assert not victim.exists()
    assert "it is dropped" in (work.folder / "log").read_text()


def test_a_killed_worker_takes_its_job_along_and_is_replaced(work: Work) -> None:
    job, worker = pids(work.long_work())

    os.kill(worker, signal.SIGKILL)

    wait_until(lambda: not is_alive(job), "the job is dead")
    work.does(work.note())


def test_a_killed_supervisor_leaves_nothing_running(node: Node, work: Work) -> None:
    # In this order: only the second worker takes updates, and it must not be busy with the other job.
    everything = [*pids(work.long_work(updates_queue_name(node.id))), *pids(work.long_work())]

    work.process.kill()

    wait_until(lambda: not any(is_alive(pid) for pid in everything), "all are dead")


def test_sigterm_lets_a_running_job_finish_and_takes_no_other(work: Work) -> None:
    folder = work.long_work()
    second = work.long_work()
    work.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "ending" in (work.folder / "log").read_text(), "the signal arrived")
    left = work.note()

    for each in (folder, second):
        (each / "go").touch()

    assert work.process.wait(30) == 0
    assert (folder / "done").exists()
    assert (second / "done").exists()
    assert not left.exists()
    assert open_queue(work.redis).count == 1


def test_sigterm_ends_idle_workers_at_once(work: Work) -> None:
    work.does(work.note())

    assert end(work.process) == 0


def test_a_job_beyond_the_grace_is_cut_off(
    settings: Settings, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    with working(redis_url, tmp_path, grace="0.5") as work:
        folder = work.long_work()

        assert end(work.process) == 0

        assert not is_alive(pids(folder)[0])
        assert not (folder / "done").exists()


@contextmanager
def redis_server(folder: Path) -> Iterator[Process]:
    with running("daemon.cli", "redis", log=folder / "redis-log") as process:
        with Redis(unix_socket_path=str(folder / "redis.sock")) as client:
            wait_until(lambda: answers(client), "Redis answers")
        yield process


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def test_a_job_outlives_redis_and_the_worker_finds_it_again(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as first, working(settings.redis_url, tmp_path) as work:
        folder = work.long_work()
        assert end(first) == 0
        wait_until(lambda: "heartbeat" in (tmp_path / "log").read_text(), "the worker missed Redis")
        assert is_alive(pids(folder)[0])
        (folder / "go").touch()
        work.does(folder / "done")

        with redis_server(tmp_path):
            work.does(work.note())
            assert end(work.process) == 0


def test_idle_workers_come_back_after_redis_was_away(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as first, working(settings.redis_url, tmp_path) as work:
        work.does(work.note())
        first.kill()
        first.wait()

        with redis_server(tmp_path):
            work.does(work.note())


def test_a_worker_started_before_redis_waits_for_it(settings: Settings, tmp_path: Path) -> None:
    with working(settings.redis_url, tmp_path) as work:
        wait_until(lambda: "Redis cannot be reached" in (tmp_path / "log").read_text(), "it noticed")

        with redis_server(tmp_path):
            work.does(work.note())

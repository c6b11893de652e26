"""The worker process with real RQ workers, a real Redis and real signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import RedisError
from rq import Callback, Repeat, Retry
from rq.job import JobStatus
from rq.rate_limit import RateLimit
from rq.webhook import Webhook

from daemon.registry.poller import QUICK_SECONDS
from portal.database import Database
from portal.models import Node, PolledImage, utcnow
from portal.queue import (
    CREATION_RETRIES_QUEUE,
    CREATIONS_QUEUE,
    DEFAULT_QUEUE,
    DOWNLOADS_QUEUE,
    MAIL_QUEUE,
    MAIL_RETRIES_QUEUE,
    POLLS_QUEUE,
    PROBES_QUEUE,
    SLOW_POLLS_QUEUE,
    SYNC_RETRIES_QUEUE,
    SYNCS_QUEUE,
    JobName,
    connect,
    enqueue,
    open_queue,
    updates_queue_name,
)
from portal.settings import Settings
from tests.daemon.processes import Process, end, is_alive, running, wait_until
from tests.daemon.registry.scripted import Reply, ScriptedServer, scripted_server
from tests.daemon.rows import add_node
from tests.daemon.work_for_tests import PREFIX
from tests.support.slow_peers import FILLER, Answer, slow_server

pytestmark = pytest.mark.processes

LONG_GRACE = "60"


@dataclass
class RunningWorker:
    """A worker process, its Redis and the folder in which its jobs create files."""

    process: Process
    redis: Redis
    folder: Path
    job_count: int = 0

    def enqueue_note(self, queue: str = DEFAULT_QUEUE) -> Path:
        """Enqueue a job that creates the returned file."""
        self.job_count += 1
        file = self.folder / f"note-{self.job_count}"
        assert enqueue(self.redis, cast("JobName", f"{PREFIX}.note"), str(file), queue=queue)
        return file

    def start_long_job(self, queue: str = DEFAULT_QUEUE) -> Path:
        """Start a long job. It ends when a file `go` is created in the returned folder."""
        self.job_count += 1
        folder = self.folder / f"work-{self.job_count}"
        folder.mkdir()
        assert enqueue(self.redis, cast("JobName", f"{PREFIX}.long_work"), str(folder), queue=queue)
        wait_until((folder / "pids").exists, "the job has started")
        return folder

    def wait_for(self, file: Path) -> None:
        """Wait until a job has created its file."""
        wait_until(file.exists, f"{file.name} exists")


def read_pids(folder: Path) -> tuple[int, int]:
    """Return the process ids of a long job and of its worker."""
    job, parent = (folder / "pids").read_text().split()
    return int(job), int(parent)


@contextmanager
def running_worker(redis_url: str, folder: Path, grace: str = LONG_GRACE) -> Iterator[RunningWorker]:
    with (
        connect(redis_url) as redis,
        running("tests.daemon.work_for_tests", grace, log=folder / "log") as process,
    ):
        yield RunningWorker(process, redis, folder)
        print((folder / "log").read_text())  # noqa: T201 - shown when a test fails


@pytest.fixture
def node(database: Database) -> Node:
    return add_node(database)


@pytest.fixture
def worker(
    settings: Settings, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningWorker]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("WORKER_PROCESSES", "2")
    with running_worker(redis_url, tmp_path) as worker:
        yield worker


def test_long_updates_do_not_delay_the_default_queue(node: Node, worker: RunningWorker) -> None:
    worker.start_long_job(updates_queue_name(node.id))

    worker.wait_for(worker.enqueue_note())


SLOTS = {
    "updates": (DEFAULT_QUEUE, DEFAULT_QUEUE),  # the fixture configures two processes
    "probes": (PROBES_QUEUE, PROBES_QUEUE),
    "registries": (DOWNLOADS_QUEUE, POLLS_QUEUE),
    "mail": (MAIL_RETRIES_QUEUE, MAIL_QUEUE),
    "syncs": (SYNC_RETRIES_QUEUE, SYNCS_QUEUE),
    "creations": (CREATION_RETRIES_QUEUE, CREATIONS_QUEUE),
}
"""The queues of jobs that occupy all processes for one kind of peer."""


@pytest.mark.parametrize("slow", SLOTS)
def test_slow_peers_of_one_kind_delay_no_other_jobs(node: Node, worker: RunningWorker, slow: str) -> None:
    for queue in SLOTS[slow]:
        worker.start_long_job(queue)
    waiting = [worker.enqueue_note(queue) for queue in SLOTS[slow]]

    for kind, queues in SLOTS.items():
        for queue in {*queues, *([updates_queue_name(node.id)] if kind == "updates" else [])}:
            if kind != slow:
                worker.wait_for(worker.enqueue_note(queue))

    assert not any(note.exists() for note in waiting)


def test_repeated_attempts_delay_no_first_attempt(worker: RunningWorker) -> None:
    worker.start_long_job(MAIL_RETRIES_QUEUE)
    waiting = worker.enqueue_note(MAIL_RETRIES_QUEUE)

    worker.wait_for(worker.enqueue_note(MAIL_QUEUE))

    assert not waiting.exists()


@dataclass
class Registries:
    """Two registries that send one byte at a time, one that answers at once, and the requests they received."""

    slow: dict[str, list[bytes]]
    good: ScriptedServer

    def count_slow_polls(self) -> int:
        """Return the number of requests to the slow registries."""
        return sum(map(len, self.slow.values()))


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registries]:
    """Run the registries and allow their images. Request this fixture before the worker."""
    slow: dict[str, list[bytes]] = {}

    def answer_slowly(requests: list[bytes], request: bytes) -> Answer:
        requests.append(request)
        return Answer(b"HTTP/1.1 200 OK\r\nX-Filler: ", FILLER * 50)

    with ExitStack() as stack:
        for _ in range(2):
            requests: list[bytes] = []
            slow[stack.enter_context(slow_server(partial(answer_slowly, requests)))] = requests
        digest = {"Docker-Content-Digest": f"sha256:{'a' * 64}"}
        good = stack.enter_context(scripted_server(lambda _: Reply(200, digest)))
        monkeypatch.setenv("FLEET_IMAGE_ALLOWLIST", ",".join([*slow, good.address]))
        yield Registries(slow, good)


def add_due_images(database: Database, registry: str, *, is_slow: bool = False) -> list[str]:
    """Add images of a registry that are due and return them."""
    images = [f"{registry}/acme/bot-{number}:managed" for number in range(6)]
    with database.transaction() as session:
        session.add_all(PolledImage(image=image, next_poll_at=utcnow(), is_slow=is_slow) for image in images)
    return images


def test_slow_registries_delay_no_poll_of_another(
    database: Database, registries: Registries, worker: RunningWorker
) -> None:
    for registry in registries.slow:
        for image in add_due_images(database, registry, is_slow=True):
            # The messages in the wrong queue are older than the mark.
            assert enqueue(worker.redis, JobName.POLL_IMAGE, image, queue=POLLS_QUEUE)
            assert enqueue(worker.redis, JobName.POLL_SLOW_REGISTRY, image, queue=SLOW_POLLS_QUEUE)
    wait_until(lambda: registries.count_slow_polls() > 0, "a slow registry is polled")
    good = add_due_images(database, registries.good.address)

    # Each poll enqueues the next one of its registry.
    assert enqueue(worker.redis, JobName.POLL_IMAGE, good[0], queue=POLLS_QUEUE)
    polled_paths = {f"/v2/acme/bot-{number}/manifests/managed" for number in range(6)}
    wait_until(lambda: polled_paths <= {request.path for request in registries.good.requests}, "all are polled")

    assert registries.count_slow_polls() == 1


def test_registries_that_become_slow_occupy_one_process(
    database: Database, registries: Registries, worker: RunningWorker
) -> None:
    for registry in registries.slow:
        image = add_due_images(database, registry)[0]
        assert enqueue(worker.redis, JobName.POLL_IMAGE, image, queue=POLLS_QUEUE)
    wait_until(lambda: registries.count_slow_polls() == 2, "both are polled")
    good = add_due_images(database, registries.good.address)[0]

    assert enqueue(worker.redis, JobName.POLL_IMAGE, good, queue=POLLS_QUEUE)

    wait_until(lambda: bool(registries.good.requests), "the good registry is polled", 2 * QUICK_SECONDS)
    wait_until(lambda: count_slow_images(database) == 2, "both are marked", 2 * QUICK_SECONDS)


def count_slow_images(database: Database) -> int:
    """Return the number of images that mark their registry as slow."""
    with database.reading() as session:
        return session.query(PolledImage).filter_by(is_slow=True).count()


@pytest.mark.parametrize("slow", [DOWNLOADS_QUEUE, SLOW_POLLS_QUEUE])
def test_downloads_and_slow_registries_do_not_delay_quick_polls(worker: RunningWorker, slow: str) -> None:
    worker.start_long_job(slow)
    waiting = worker.enqueue_note(slow)

    worker.wait_for(worker.enqueue_note(POLLS_QUEUE))

    assert not waiting.exists()


def test_hanging_bots_of_many_nodes_delay_no_other_jobs(node: Node, worker: RunningWorker) -> None:
    for _ in range(2):
        worker.start_long_job(PROBES_QUEUE)
    waiting = [worker.enqueue_note(PROBES_QUEUE) for _ in range(3)]

    worker.wait_for(worker.enqueue_note())
    worker.wait_for(worker.enqueue_note(updates_queue_name(node.id)))

    assert not any(note.exists() for note in waiting)


def test_queue_of_a_new_node_is_served(database: Database, worker: RunningWorker) -> None:
    worker.wait_for(worker.enqueue_note())

    node = add_node(database, "later")

    worker.wait_for(worker.enqueue_note(updates_queue_name(node.id)))


def test_unknown_job_is_not_run(worker: RunningWorker) -> None:
    folder = worker.folder / "created by an unknown job"
    enqueue(worker.redis, cast("JobName", "os.mkdir"), str(folder))
    worker.wait_for(worker.enqueue_note())
    worker.wait_for(worker.enqueue_note())

    assert not folder.exists()
    assert "unknown job" in (worker.folder / "log").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"on_success": Callback(f"{PREFIX}.trespass")},
        {"on_failure": Callback(f"{PREFIX}.trespass")},
        {"on_stopped": Callback(f"{PREFIX}.trespass")},
        {"webhooks": [Webhook("http://127.0.0.1:1/", "finished")]},
        {"meta": {"a": 1}},
        {"repeat": Repeat(times=1)},
        {"retry": Retry(max=1)},
        {"ttl": 60},
        {"rate_limit": RateLimit("a", 1)},
        {"args": ("a", "b")},
        {"args": ({"a": 1},)},
        {"kwargs": {"more": 1}},
        {"args": ("x" * 501,)},
        {"args": ("x" * 20_000_000,)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_message_that_says_more_than_a_job_and_its_argument_is_dropped(
    worker: RunningWorker, options: dict[str, Any]
) -> None:
    file = worker.folder / "created"
    open_queue(worker.redis).enqueue_call(f"{PREFIX}.note", **{"args": (str(file),), "timeout": -1, **options})
    wait_until(lambda: "dropped" in (worker.folder / "log").read_text(), "the message is dropped")
    worker.wait_for(worker.enqueue_note())

    assert not file.exists()
    assert not Path(f"{file}-trespass").exists()


@pytest.mark.parametrize("field", [b"success_callback_name", b"unknown", b"\xff", b"timeout"])
def test_message_with_other_fields_is_dropped(worker: RunningWorker, field: bytes) -> None:
    file = worker.folder / "created"
    queue = open_queue(worker.redis)
    job = queue.create_job(f"{PREFIX}.note", args=(str(file),))
    job.save()
    worker.redis.hset(job.key, field, "x")
    worker.redis.rpush(queue.key, job.id)
    wait_until(lambda: "dropped" in (worker.folder / "log").read_text(), "the message is dropped")
    worker.wait_for(worker.enqueue_note())

    assert not file.exists()


def test_records_of_abandoned_jobs_run_nothing(
    settings: Settings, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    file = tmp_path / "created"
    with connect(redis_url) as redis:
        queue = open_queue(redis)
        job = queue.create_job(f"{PREFIX}.note", args=(str(file),), on_failure=Callback(f"{PREFIX}.trespass"))
        job.set_status(JobStatus.STARTED)
        job.save()
        redis.zadd(queue.started_job_registry.key, {f"{job.id}:execution": 1})
        redis.zadd(queue.ready_job_registry.key, {job.id: 1})
        redis.rpush(queue.intermediate_queue.key, job.id)
    with running_worker(redis_url, tmp_path) as worker:
        worker.wait_for(worker.enqueue_note())

        # The record of the note itself is removed shortly after its effect.
        wait_until(lambda: worker.redis.zcard(queue.started_job_registry.key) == 0, "no record is left")
        assert worker.redis.llen(queue.intermediate_queue.key) == 0
    assert not file.exists()
    assert not Path(f"{file}-trespass").exists()


def test_job_dies_with_its_killed_worker_which_is_replaced(worker: RunningWorker) -> None:
    job, parent = read_pids(worker.start_long_job())

    os.kill(parent, signal.SIGKILL)

    wait_until(lambda: not is_alive(job), "the job is dead")
    worker.wait_for(worker.enqueue_note())


def test_killed_supervisor_leaves_no_process_running(node: Node, worker: RunningWorker) -> None:
    # The update comes first, because only the second worker runs updates and must not be busy with the other job.
    processes = [*read_pids(worker.start_long_job(updates_queue_name(node.id))), *read_pids(worker.start_long_job())]

    worker.process.kill()

    wait_until(lambda: not any(is_alive(pid) for pid in processes), "all are dead")


def test_running_jobs_finish_after_sigterm_and_no_other_starts(worker: RunningWorker) -> None:
    folder = worker.start_long_job()
    second = worker.start_long_job()
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in (worker.folder / "log").read_text(), "the signal arrived")
    not_started = worker.enqueue_note()

    for each in (folder, second):
        (each / "go").touch()

    assert worker.process.wait(30) == 0
    assert (folder / "done").exists()
    assert (second / "done").exists()
    assert not not_started.exists()
    assert open_queue(worker.redis).count == 1


def test_idle_workers_stop_at_once_after_sigterm(worker: RunningWorker) -> None:
    worker.wait_for(worker.enqueue_note())

    assert end(worker.process) == 0


def test_job_is_killed_after_the_grace_period(
    settings: Settings, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    with running_worker(redis_url, tmp_path, grace="0.5") as worker:
        folder = worker.start_long_job()

        assert end(worker.process) == 0

        assert not is_alive(read_pids(folder)[0])
        assert not (folder / "done").exists()


@contextmanager
def redis_server(folder: Path) -> Iterator[Process]:
    with running("daemon.cli", "redis", log=folder / "redis-log") as process:
        with Redis(unix_socket_path=str(folder / "redis.sock")) as client:
            wait_until(lambda: is_answering(client), "Redis answers")
        yield process


def is_answering(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def test_running_job_survives_a_restart_of_redis(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as first, running_worker(settings.redis_url, tmp_path) as worker:
        folder = worker.start_long_job()
        assert end(first) == 0
        wait_until(lambda: "heartbeat" in (tmp_path / "log").read_text(), "the worker has logged the outage")
        assert is_alive(read_pids(folder)[0])
        (folder / "go").touch()
        worker.wait_for(folder / "done")

        with redis_server(tmp_path):
            worker.wait_for(worker.enqueue_note())
            assert end(worker.process) == 0


def test_idle_workers_continue_after_a_restart_of_redis(settings: Settings, tmp_path: Path) -> None:
    with redis_server(tmp_path) as first, running_worker(settings.redis_url, tmp_path) as worker:
        worker.wait_for(worker.enqueue_note())
        first.kill()
        first.wait()

        with redis_server(tmp_path):
            worker.wait_for(worker.enqueue_note())


def test_worker_waits_for_redis_at_startup(settings: Settings, tmp_path: Path) -> None:
    with running_worker(settings.redis_url, tmp_path) as worker:
        wait_until(lambda: "Redis cannot be reached" in (tmp_path / "log").read_text(), "the outage is logged")

        with redis_server(tmp_path):
            worker.wait_for(worker.enqueue_note())

"""The `flotilla worker` process: a supervisor, its RQ workers, and below each the one job it runs.

Every job runs in a forked child of its worker, because only a process can be ended at any moment, by its lease or by
us. The chain dies from the top: whoever loses its parent is killed by the kernel, so that no job goes on unseen while
another worker takes it over. Nothing is lost by that, for the database is the truth and leases expire.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkProcess

from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from daemon import jobs
from daemon.context import Context
from portal.queue import DEFAULT_QUEUE, connect, updates_queue_name
from portal.services.bots import nodes

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HEARTBEAT_SECONDS = 20
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class BotWorker(Worker):
    """RQ's worker, made to survive a Redis that goes away and to run nothing but our own jobs."""

    max_connection_wait_time = 4.0

    def subscribe(self) -> None:
        """Listen to no commands: nobody ends an update by writing to Redis, and threads and forks mix badly."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job in a child, unless it is none of ours: a write to Redis must not make us run any code."""
        if not _is_ours(job):
            logger.error(
                "a message in queue %s asks for something that is no job of Flotilla; it is dropped", queue.name
            )
            job.delete()
            return
        super().execute_job(job, queue)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """The child: bound to the life of its worker."""
        die_with_parent(self.pid or 0)
        super().main_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        """Let a job finish when a service manager signals the whole group; its worker knows when time is up."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tell Redis that the job goes on, and let it go on where Redis cannot be told."""
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            logger.warning("a heartbeat could not be sent (%s); the job goes on", type(error).__name__)

    def set_shutdown_requested_date(self) -> None:
        """The same for the note that we are about to end, which is written while a job runs."""
        with suppress(RedisError):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]


@dataclass
class _Slot:
    """A place for one RQ worker: what it should listen to, and the process that does."""

    queues: list[str]
    process: ForkProcess | None = None
    serving: list[str] | None = None
    started: float = 0.0


class Supervisor:
    """Keeps the RQ workers running, and on the queues of the nodes there are.

    The first worker serves only the default queue, so that no number of long updates holds up polls and mail; the
    others prefer the updates of the nodes.

    Args:
        context: settings, database and Redis.
        grace: seconds that running jobs get to finish once we are asked to end.
    """

    RESTART_PAUSE = 1.0
    LOOK_FOR_NODES_EVERY = 5.0

    def __init__(self, context: Context, grace: float = 60.0) -> None:
        self._context = context
        self._grace = grace
        self._slots = [_Slot([DEFAULT_QUEUE]) for _ in range(context.settings.worker_processes)]
        self._looked_at = float("-inf")
        self._database_answers = True

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then let running jobs finish within the grace."""
        # Blocked and waited for: a handler could interrupt us in the middle of starting a process.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        logger.info("starting %d worker processes", len(self._slots))
        while True:
            self._look_for_nodes()
            for slot in self._slots:
                self._tend(slot)
            if signal.sigtimedwait(STOP_SIGNALS, 0.5):
                break
        self._end()

    def _look_for_nodes(self) -> None:
        if time.monotonic() - self._looked_at < self.LOOK_FOR_NODES_EVERY:
            return
        self._looked_at = time.monotonic()
        try:
            with self._context.database.reading() as session:
                queues = [updates_queue_name(node.id) for node in nodes.list_nodes(session)]
        except SQLAlchemyError as error:
            if self._database_answers:
                logger.warning("the database cannot be asked for nodes: %s", type(error).__name__)
            self._database_answers = False
            return
        self._database_answers = True
        for slot in self._slots[1:]:
            slot.queues = [*queues, DEFAULT_QUEUE]

    def _tend(self, slot: _Slot) -> None:
        if slot.process is not None and slot.process.is_alive():
            if slot.serving != slot.queues:
                # An idle one ends at once, a busy one after its job; then it starts anew on the right queues.
                _signal(slot.process, signal.SIGTERM)
                slot.serving = slot.queues
            return
        if time.monotonic() - slot.started < self.RESTART_PAUSE:
            return
        if slot.process is not None:
            logger.info("worker process %s ended with %s", slot.process.pid, slot.process.exitcode)
            slot.process.close()
        slot.serving, slot.started = slot.queues, time.monotonic()
        arguments = (self._context.settings.redis_url, slot.queues, os.getpid())
        slot.process = get_context("fork").Process(target=_work, args=arguments)
        slot.process.start()

    def _end(self) -> None:
        running = [slot.process for slot in self._slots if slot.process is not None and slot.process.is_alive()]
        logger.info("ending; running jobs get %g seconds to finish", self._grace)
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while any(process.is_alive() for process in running) and time.monotonic() < deadline:
            if signal.sigtimedwait(STOP_SIGNALS, 0.1):
                break  # asked twice: somebody is in a hurry
        for process in running:
            if process.is_alive():
                logger.warning("worker process %s is cut off; its job will be taken over", process.pid)
                process.kill()
            process.join()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process as soon as its parent is gone.

    Args:
        parent: the process id it was started by; if that is gone already, this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _work(redis_url: str, queues: list[str], supervisor: int) -> None:
    """One RQ worker, in a process of its own."""
    die_with_parent(supervisor)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        worker = BotWorker(
            queues,
            connection=connect(redis_url),
            serializer=JSONSerializer,
            worker_ttl=60,
            job_monitoring_interval=HEARTBEAT_SECONDS,
        )
        worker.work(logging_level="WARNING")
    except RedisError as error:
        logger.warning("Redis cannot be reached (%s); trying again", type(error).__name__)
        sys.exit(1)


def _is_ours(job: Job) -> bool:
    try:
        return job.func_name in jobs.NAMES
    except Exception:  # noqa: BLE001 - whatever a message that cannot be read raises
        return False


def _signal(process: ForkProcess, number: signal.Signals) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

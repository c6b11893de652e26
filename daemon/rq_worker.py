"""One RQ worker of a supervisor: it runs each job in a child process, and serves the queues of nodes in turn."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress

from redis.exceptions import RedisError
from rq import Queue, Worker, worker_registration
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now as rq_now

from daemon import jobs
from daemon.messages import Message, drop_records
from portal.queue import connect, is_updates_queue

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HEARTBEAT_SECONDS = 20
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class BotWorker(Worker):
    """RQ's worker, which survives outages of Redis, runs only Flotilla's jobs, and serves nodes in turn."""

    job_class = Message
    max_connection_wait_time = 4.0

    def reorder_queues(self, reference_queue: Queue) -> None:
        """Serve the queues of nodes in turn: the one that a job came from is the last of them next time.

        Workers otherwise prefer the first queues of their list, and the last nodes wait while the first have work.
        """
        nodes_queues = [queue for queue in self._ordered_queues if is_updates_queue(queue.name)]
        if reference_queue in nodes_queues:
            position = nodes_queues.index(reference_queue) + 1
            others = [queue for queue in self._ordered_queues if queue not in nodes_queues]
            self._ordered_queues = [*nodes_queues[position:], *nodes_queues[:position], *others]

    def subscribe(self) -> None:
        """Ignore RQ's commands: Redis must not stop jobs, and the listening thread would not survive forks."""

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job in a child if it is known, so that write access to Redis does not allow running other code."""
        if not isinstance(job, Message) or not job.is_for(jobs.NAMES):
            logger.error("queue %s contained an unknown job, which was dropped", queue.name)
            job.delete()
            return
        super().execute_job(job, queue)

    def run_maintenance_tasks(self) -> None:
        """Delete old records instead of what RQ does with them; see `drop_records`."""
        for queue in self.queues:
            drop_records(queue)
            worker_registration.clean_worker_registry(queue)
        self.last_cleaned_at = rq_now()  # type: ignore[assignment] # RQ declares None

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Run the job in the child, which is killed when its worker dies."""
        die_with_parent(self.pid or 0)
        super().main_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        """Ignore stop signals, which service managers send to the whole group; the supervisor limits the grace."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Send the heartbeat; an outage of Redis does not stop the job."""
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            logger.warning("a heartbeat could not be sent (%s); the job continues", type(error).__name__)

    def set_shutdown_requested_date(self) -> None:
        """Record the shutdown request; an outage of Redis does not stop the job."""
        with suppress(RedisError):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    Args:
        parent: the id of the parent process. If it is already dead, this process exits at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run_worker(redis_url: str, queues: list[str], supervisor: int) -> None:
    """Run one RQ worker in this process.

    Args:
        redis_url: URL of the Redis server.
        queues: names of the queues that it serves.
        supervisor: id of the parent process, with which this process ends.
    """
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
        logger.warning("Redis cannot be reached (%s); retrying", type(error).__name__)
        sys.exit(1)

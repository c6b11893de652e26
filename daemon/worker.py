"""The `flotilla worker` process: a supervisor, its RQ workers, and one child process per running job.

Every job runs in a forked child, because only a process can be killed at any moment. The kernel kills each process
when its parent dies, so that no job continues while another worker takes it over. Killing a job loses nothing: the
state is in the database, and leases expire.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkProcess

from sqlalchemy.exc import SQLAlchemyError

from daemon.context import Context
from daemon.rehearsal import rehearse
from daemon.rq_worker import STOP_SIGNALS, run_worker
from portal.queue import (
    ALERTS_QUEUE,
    CREATION_RETRIES_QUEUE,
    CREATIONS_QUEUE,
    DEFAULT_QUEUE,
    DOWNLOADS_QUEUE,
    MAIL_QUEUE,
    MAIL_RETRIES_QUEUE,
    POLLS_QUEUE,
    PROBES_QUEUE,
    READINGS_QUEUE,
    SLOW_POLLS_QUEUE,
    SYNC_RETRIES_QUEUE,
    SYNCS_QUEUE,
    updates_queue_name,
)
from portal.services.bots import nodes

logger = logging.getLogger(__name__)


@dataclass
class _Slot:
    """One RQ worker: the queues it should serve, its process, and the queues that process serves."""

    queues: list[str]
    process: ForkProcess | None = None
    serving: list[str] | None = None
    started: float = 0.0


class Supervisor:
    """Keeps the RQ workers running and assigns the queues of all nodes to them.

    Of the configured workers, the first serves the default queue and probes of nodes, so that long updates never
    delay them. The others prefer the update queues of the nodes, and serve no probes, which bots can make long.

    Eleven more workers reach machines of others, so that slow peers of one kind delay only jobs of that kind. One
    only probes. One reads logs for people who wait for them. Two reach registries: one only makes quick polls, and
    the other prefers downloads and slow polls. Two reach the mail server: one only makes first attempts, and the
    other prefers later ones. Two carry members into bots: one only into bots that answered last time, and the other
    prefers the rest. Two create bots, which takes minutes for an image that never becomes healthy: one only makes
    first attempts, and the other prefers later ones. One sends alerts.

    Args:
        context: settings, database and Redis.
        grace: seconds in which running jobs may finish after a stop signal.
    """

    RESTART_SECONDS = 1.0
    NODE_REFRESH_SECONDS = 5.0

    def __init__(self, context: Context, grace: float = 60.0) -> None:
        self._context = context
        self._grace = grace
        self._update_slots = [_Slot([DEFAULT_QUEUE]) for _ in range(context.settings.worker_processes - 1)]
        registry_slots = [_Slot([POLLS_QUEUE]), _Slot([DOWNLOADS_QUEUE, SLOW_POLLS_QUEUE, POLLS_QUEUE])]
        mail_slots = [_Slot([MAIL_QUEUE]), _Slot([MAIL_RETRIES_QUEUE, MAIL_QUEUE])]
        probe_slots = [_Slot([DEFAULT_QUEUE, PROBES_QUEUE]), _Slot([PROBES_QUEUE])]
        sync_slots = [_Slot([SYNCS_QUEUE]), _Slot([SYNC_RETRIES_QUEUE, SYNCS_QUEUE])]
        creation_slots = [_Slot([CREATIONS_QUEUE]), _Slot([CREATION_RETRIES_QUEUE, CREATIONS_QUEUE])]
        reading_slots = [_Slot([READINGS_QUEUE])]
        other_slots = [*reading_slots, *probe_slots, *registry_slots, *mail_slots, *sync_slots, *creation_slots]
        self._slots = [*other_slots, _Slot([ALERTS_QUEUE]), *self._update_slots]
        self._refreshed_at = float("-inf")
        self._database_answers = True
        self._has_rehearsed = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then let running jobs finish within the grace period."""
        # Signals are blocked and awaited, because a handler could interrupt the start of a process.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        logger.info("starting %d worker processes", len(self._slots))
        while True:
            self._refresh_queues()
            for slot in self._slots:
                self._ensure_running(slot)
            if signal.sigtimedwait(STOP_SIGNALS, 0.5):
                break
        self._shut_down()

    def _refresh_queues(self) -> None:
        if time.monotonic() - self._refreshed_at < self.NODE_REFRESH_SECONDS:
            return
        self._refreshed_at = time.monotonic()
        try:
            with self._context.database.reading() as session:
                queues = [updates_queue_name(node.id) for node in nodes.list_nodes(session)]
            self._rehearse_once()
        except SQLAlchemyError as error:
            if self._database_answers:
                logger.warning("the nodes cannot be read from the database: %s", type(error).__name__)
            self._database_answers = False
            return
        self._database_answers = True
        for number, slot in enumerate(self._update_slots):
            # Each begins with another node, so that not all of them look for work at the first one.
            first = number % max(1, len(queues))
            slot.queues = [*queues[first:], *queues[:first], DEFAULT_QUEUE]

    def _rehearse_once(self) -> None:
        """Prepare the statements of frequent jobs for all processes that are forked from now on."""
        if self._has_rehearsed:
            return
        self._has_rehearsed = True
        try:
            rehearse(self._context.database)
        except Exception as error:  # noqa: BLE001 - without it, jobs only take longer
            logger.warning("the statements of jobs could not be rehearsed: %s", type(error).__name__)
        # Without this, the collector of each job would write to the memory that it shares with this process.
        gc.collect()
        gc.freeze()

    def _ensure_running(self, slot: _Slot) -> None:
        if slot.process is not None and slot.process.is_alive():
            if slot.serving != slot.queues:
                # An idle worker stops at once, a busy one after its job. Then it is restarted with the new queues.
                _send_signal(slot.process, signal.SIGTERM)
                slot.serving = slot.queues
            return
        if time.monotonic() - slot.started < self.RESTART_SECONDS:
            return
        if slot.process is not None:
            logger.info("worker process %s exited with code %s", slot.process.pid, slot.process.exitcode)
            slot.process.close()
        slot.serving, slot.started = slot.queues, time.monotonic()
        arguments = (self._context.settings.redis_url, slot.queues, os.getpid())
        slot.process = get_context("fork").Process(target=run_worker, args=arguments)
        slot.process.start()

    def _shut_down(self) -> None:
        running = [slot.process for slot in self._slots if slot.process is not None and slot.process.is_alive()]
        logger.info("stopping; running jobs have %g seconds to finish", self._grace)
        for process in running:
            _send_signal(process, signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while any(process.is_alive() for process in running) and time.monotonic() < deadline:
            if signal.sigtimedwait(STOP_SIGNALS, 0.1):
                break  # a second signal ends the grace period
        for process in running:
            if process.is_alive():
                logger.warning("worker process %s is killed; another worker will take over its job", process.pid)
                process.kill()
            process.join()


def _send_signal(process: ForkProcess, number: signal.Signals) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

"""Messages in Redis that workers accept: the name of a job and one text. Used by the worker.

RQ stores more with a job: functions to call afterwards, addresses to notify, jobs to start later, pickled values. A
worker refuses a message with any of these, so that write access to Redis does not allow running code.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.utils import current_timestamp

logger = logging.getLogger(__name__)

_FIELDS = frozenset(
    {
        "created_at",
        "data",
        "description",
        "ended_at",
        "enqueued_at",
        "exc_info",
        "failure_ttl",
        "last_heartbeat",
        "origin",
        "result_ttl",
        "started_at",
        "status",
        "timeout",
        "worker_name",
    }
)
"""Fields that RQ stores for a plain job. Other fields must be empty."""
_MAX_DATA_BYTES = 4096
_MAX_ARGUMENT_LENGTH = 500


class Message(Job):
    """A job as RQ reads it from Redis. A message that Flotilla does not send counts as missing, and RQ skips it."""

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        """Read the fields of a message.

        Raises:
            NoSuchJobError: the message has other fields, or values that RQ cannot read.
        """
        try:
            self._require_known_fields(raw_data)
            super().restore(raw_data)
        except Exception as error:
            logger.error("message %s is not a job of Flotilla and was dropped: %r", self.id, error)  # noqa: TRY400
            raise NoSuchJobError(self.id) from error
        # A limit would interrupt the job at any line. Each step of a job has its own deadline instead.
        self.timeout = -1

    def is_for(self, names: Collection[str]) -> bool:
        """Return whether the message calls one of these functions with one text."""
        try:
            called = (self.func_name in names, self.instance, self.kwargs)
            (argument,) = self.args
        except Exception:  # noqa: BLE001 - a message with invalid data can raise anything
            return False
        return called == (True, None, {}) and isinstance(argument, str) and len(argument) <= _MAX_ARGUMENT_LENGTH

    @staticmethod
    def _require_known_fields(raw_data: Mapping[bytes, bytes]) -> None:
        unknown = {name.decode() for name, value in raw_data.items() if value} - _FIELDS
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}"[:200])
        if len(raw_data.get(b"data", b"")) > _MAX_DATA_BYTES:
            raise ValueError("too much data")


def drop_records(queue: Queue) -> None:
    """Delete RQ's records of ended and abandoned jobs of a queue.

    RQ's own maintenance calls functions and starts jobs that the records name. Nothing of it is needed, because the
    scheduler enqueues again what the database shows as due.
    """
    queue.finished_job_registry.cleanup()
    queue.failed_job_registry.cleanup()
    started = queue.started_job_registry
    queue.connection.zremrangebyscore(started.key, 0, current_timestamp())
    queue.connection.delete(queue.intermediate_queue.key)

"""Repetition of what the engine did not do. Used by `sequence`, `rollback`, `recovery` and `cleanup`.

Trouble of the engine (`daemon.engine.trouble`) decides nothing. A worker repeats an idempotent action for up to
`WORKER_SECONDS`. Then the phase decides: before the stop the update fails without blame; a bot that is down gets its
old release back; and a rollback stays as it is, so that a later job continues it, until `has_expired`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from daemon.engine.client import describe_error
from daemon.engine.trouble import is_engine_trouble, repeat_in_trouble
from daemon.errors import EngineTrouble
from daemon.update.update_context import UpdateContext
from portal.models import utcnow
from portal.services.rollouts import engine_trouble

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WORKER_SECONDS = 60.0
"""How long one worker repeats an action. A longer time would keep the worker from the bots of other nodes."""
_PATIENCE = timedelta(minutes=15)
"""How long trouble may last before an operator is called."""
_BYTES_PER_SECOND = 2_000_000
"""The patience grows with the data, because an attempt to archive or restore it may fail at its end."""


def repeat(context: UpdateContext, action: Callable[[UpdateContext], Result]) -> Result:
    """Run an idempotent action of an update, and again while the engine is in trouble. Each attempt is journaled.

    Raises:
        EngineTrouble: the trouble has lasted for `WORKER_SECONDS`.
        Exception: any other error of the action.
    """
    attempts = 0
    name = _name_of(action)

    def note(error: Exception) -> None:
        nonlocal attempts
        attempts += 1
        text = describe_error(error)
        logger.warning("update %s: %s; attempt %d follows", context.update.id, text, attempts + 1)
        with context.transaction() as (session, update):
            engine_trouble.record(session, update, name, text, utcnow())

    try:
        result = repeat_in_trouble(lambda: action(context), WORKER_SECONDS, note)
    except Exception as error:
        if is_engine_trouble(error) and not isinstance(error, EngineTrouble):
            raise EngineTrouble(describe_error(error)) from error
        raise
    # The action may have failed in an earlier worker. Trouble with another action, such as a restore, is not over.
    if engine_trouble.find_beginning(context.update, name) is not None:
        with context.transaction() as (session, update):
            engine_trouble.end(session, update, name, utcnow())
    return result


def has_expired(context: UpdateContext, action: Callable[[UpdateContext], object]) -> bool:
    """Return whether the trouble with an action that was repeated has lasted too long."""
    began = engine_trouble.find_beginning(context.update, _name_of(action))
    return began is not None and utcnow() > began + choose_patience(context.volume_sizes.used)


def choose_patience(size: int) -> timedelta:
    """Return how long trouble may last before an operator is called.

    Args:
        size: size of the volumes in bytes.
    """
    return _PATIENCE + timedelta(seconds=size / _BYTES_PER_SECOND)


def _name_of(action: Callable[[UpdateContext], object]) -> str:
    return getattr(action, "__name__", "")

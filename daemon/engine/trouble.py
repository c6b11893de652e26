"""Trouble of an engine: which errors it causes, and how long a call is repeated. Used by updates and snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from docker.errors import APIError

from daemon.errors import EngineTrouble, OperationFailed

Result = TypeVar("Result")

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_FAULTS_OF_IMAGES = (
    "unable to find user",
    "unable to find group",
    "uids and gids must be in range",
    "not a directory",
    "is not directory",
)
"""Texts of errors that engines answer with status 500 although the image is the cause: it lacks the user of the
container, or has a file where the container needs a folder."""


def is_engine_trouble(error: BaseException | None) -> bool:
    """Return whether the engine caused an error, so that it says nothing about a release, a bot or its data.

    This is the only place that decides it. Trouble is: no connection; no complete answer, or none that can be decoded
    (`EngineUnreachable`); a status from 500, unless the image is the cause; a lost helper container or a full disk
    (`HelperLost`); and every failed operation that one of these caused.
    """
    if isinstance(error, APIError):
        return not error.is_client_error() and not any(text in str(error) for text in _FAULTS_OF_IMAGES)
    if isinstance(error, EngineTrouble):
        return True
    return isinstance(error, OperationFailed) and is_engine_trouble(error.__cause__)


def repeat_in_trouble(
    call: Callable[[], Result], seconds: float, note: Callable[[Exception], object] = lambda _error: None
) -> Result:
    """Call a function, and again with growing pauses while the engine is in trouble.

    Args:
        call: an idempotent function. The engine may have carried out a call that raised an error.
        seconds: how long the trouble may last, from the first error. After that the error is raised.
        note: receives the error before each repetition.

    Raises:
        Exception: what `call` raised: any error but trouble, or the last trouble.
    """
    deadline = None
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except Exception as error:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if not is_engine_trouble(error) or now + pause > deadline:
                raise
            note(error)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

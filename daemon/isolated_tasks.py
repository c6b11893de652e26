"""Tasks of a tick of the scheduler that must not affect each other. Used by rollouts and creations of bots."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

logger = logging.getLogger(__name__)

_logged_errors: dict[str, str] = {}
"""The last logged error of each task. An error that repeats at every tick is logged once."""


@contextmanager
def isolate_errors(task: str) -> Iterator[None]:
    """Log an error of one task instead of raising it, so that the other tasks run. The next tick tries again.

    Args:
        task: what fails, for the log, such as `rollout <id>`.
    """
    try:
        yield
    except IntegrityError:
        pass  # another scheduler did the same at the same moment
    except Exception as error:
        if _logged_errors.get(task) != repr(error):
            logger.exception("%s failed", task)
        _logged_errors[task] = repr(error)
    else:
        _logged_errors.pop(task, None)

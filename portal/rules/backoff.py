"""Delays before repetitions of failed calls. Used by the member sync."""

from __future__ import annotations

import random
from datetime import timedelta

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=15)


def choose_delay(failures: int) -> timedelta:
    """Choose a random delay up to a limit that doubles with each failure, from 1 second to 15 minutes.

    The whole delay is random (full jitter), so that calls that failed together are not repeated together.

    Args:
        failures: number of failures in a row, from 1.
    """
    limit: timedelta = min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY)
    return limit * random.random()  # noqa: S311 - not a secret

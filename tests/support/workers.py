"""The processes among which pytest divides the tests."""

import os


def worker_number() -> int:
    """Return the number of this process, from 0: what all of them would otherwise share is divided by it."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

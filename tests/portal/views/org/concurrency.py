"""Running requests of several browsers at the same moment. Used by the tests of races."""

import threading
import time
from collections.abc import Callable, Sequence

Request = Callable[[], int]
"""Sends a request and returns the status of the response."""


def run_together(requests: Sequence[Request], head_start: float = 0) -> list[int]:
    """Run requests in threads that start together, and return their statuses.

    Args:
        requests: the requests.
        head_start: how many seconds the first request starts before the others; negative for after them.
    """
    statuses = [0] * len(requests)
    start = threading.Barrier(len(requests))

    def run(number: int) -> None:
        start.wait()
        time.sleep(max(0.0, head_start if number else -head_start))
        statuses[number] = requests[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses

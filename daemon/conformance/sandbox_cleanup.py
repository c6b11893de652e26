"""Removal of what runs of the conformance kit created on an engine, also of runs that were killed.

Everything carries the id of its run and of the process that created it. Leftovers of a process that has ended are
removed by the next run. Other runs on the same engine are left alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

RUN_LABEL = "flotilla.conformance"
OWNER_LABEL = "flotilla.conformance-owner"
STARTED_LABEL = "flotilla.conformance-started"

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run. Its containers are removed before it exits."""

_FOREIGN_SECONDS = 6 * 3600
"""After this time, leftovers of processes that this process cannot see, such as of another container, are removed."""
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.25


def create_labels(run: str) -> dict[str, str]:
    """Return the labels of everything that a run of this process creates."""
    return {RUN_LABEL: run, OWNER_LABEL: describe_process(os.getpid()), STARTED_LABEL: str(int(time.time()))}


def remove_run(engine: docker.APIClient, run: str) -> None:
    """Remove everything that a run created, also what the engine is still creating for an interrupted call.

    Raises:
        docker.errors.APIError: the engine refused for several seconds.
    """
    with _ignoring_signals():
        _remove_labelled(engine, f"{RUN_LABEL}={run}")


def remove_leftovers(engine: docker.APIClient) -> None:
    """Remove what killed runs left.

    Raises:
        docker.errors.APIError: the engine refused for several seconds.
    """
    labels = [labels for _, labels in _list_labelled(engine, RUN_LABEL)]
    for run in {found[RUN_LABEL] for found in labels if is_leftover(found, time.time())}:
        remove_run(engine, run)


def is_leftover(labels: dict[str, str], now: float) -> bool:
    """Return whether the run with these labels has ended without removing what it created.

    Args:
        labels: the labels of something that the run created.
        now: seconds since the epoch.
    """
    owner = labels.get(OWNER_LABEL, "")
    place, _, process = owner.rpartition(":")
    if place != describe_process(os.getpid()).rpartition(":")[0]:
        started = labels.get(STARTED_LABEL, "")
        return not started.isdecimal() or now - int(started) > _FOREIGN_SECONDS
    number = process.partition("-")[0]
    return not number.isdecimal() or describe_process(int(number)) != owner


def describe_process(number: int) -> str:
    """Return a text that no other process ever has: boot, process namespace, number and start time.

    Returns:
        The text; it ends with a dash if the process does not exist.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink().name
    return f"{boot}:{namespace}:{number}-{_read_start_time(number)}"


def _read_start_time(number: int) -> str:
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return ""
    # The name of the program, in parentheses, may contain anything.
    return status.rpartition(")")[2].split()[19]


@contextmanager
def _ignoring_signals() -> Iterator[None]:
    """Ignore Ctrl-C and requests to end, so that a second one does not leave containers behind."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _remove_labelled(engine: docker.APIClient, label: str) -> None:
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1
        found = list(_list_labelled(engine, label))
        for remove, _ in found:
            _attempt(remove, last=last)
        # Once more, because an interrupted call may still create something.
        if not found and attempt:
            return
        time.sleep(_PAUSE_SECONDS)


def _attempt(remove: Callable[[], object], *, last: bool) -> None:
    try:
        remove()
    except APIError as error:
        # 404: already removed. 403, 409: still in use by a container that is being removed.
        if last and error.status_code != 404:
            raise


def _list_labelled(engine: docker.APIClient, label: str) -> Iterator[tuple[Callable[[], object], dict[str, str]]]:
    """Yield how to remove each thing with a label, and its labels; containers first."""
    filters: dict[str, Any] = {"label": label}
    for found in engine.containers(all=True, filters=filters):
        yield partial(engine.remove_container, found["Id"], v=True, force=True), found["Labels"]
    for found in engine.volumes(filters=filters)["Volumes"] or ():
        yield partial(engine.remove_volume, found["Name"]), found["Labels"]
    for found in engine.networks(filters=filters):
        yield partial(engine.remove_network, found["Id"]), found["Labels"]

"""Updates during which something besides the engine fails: the database, the disk of the archives, another worker.

Part of `make test-chaos`. `every_fault` injects the faults of the engine.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.update import retries, rollback, steps
from daemon.update.sequence import update_bot
from daemon.update.update_context import UpdateContext
from portal.models import Step
from tests.daemon.update.chaos import RELEASES, State, find_problems, is_finished
from tests.support.outages import locked_database
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.timeout(0)]

_LOCKED_SECONDS = 10.0
_FULL_SECONDS = 5.0
_MAX_JOBS = 8
_STEPS = [
    *(("good", step) for step in Step if step is not Step.ROLLBACK and step is not Step.CLAIM),
    ("bad", Step.HEALTH),
    ("bad", Step.ROLLBACK),
]
"""The steps whose beginning is recorded, with the release whose update reaches them."""
_DISK_BYTES = 64 << 20


@pytest.fixture
def before(site: Site) -> State:
    """The bot before the update."""
    for version in RELEASES.values():
        site.images.digest(version)
    return State(site.contents(), site.volumes(), site.inspect())


def run_jobs(site: Site, update_id: str) -> None:
    """Let workers handle an update until it has ended and is cleaned up."""
    for _ in range(_MAX_JOBS):
        update_bot(site.database, site.settings, update_id)
        if is_finished(site.update(update_id)):
            return
        site.expire_lease()


def at_step(monkeypatch: pytest.MonkeyPatch, step: Step, begin: Callable[[], object]) -> None:
    """Call a function once, at the beginning of this step."""
    begun = list[Step]()

    def begin_once(entered: Step) -> None:
        if entered is step and not begun:
            begun.append(step)
            begin()

    def begin_before(action: Callable[[UpdateContext], None], entered: Step) -> Callable[[UpdateContext], None]:
        def begin_and_act(context: UpdateContext) -> None:
            begin_once(entered)
            action(context)

        return begin_and_act

    enter_step = UpdateContext.enter_step

    def enter_and_begin(context: UpdateContext, entered: Step) -> None:
        enter_step(context, entered)
        begin_once(entered)

    monkeypatch.setattr(UpdateContext, "enter_step", enter_and_begin)
    # These steps are recorded together with their effects.
    monkeypatch.setattr(steps, "commit", begin_before(steps.commit, Step.COMMIT))
    monkeypatch.setattr(rollback, "run_rollback", begin_before(rollback.run_rollback, Step.ROLLBACK))


@contextmanager
def locked_for_writing(url: str) -> Iterator[None]:
    """Keep all other connections from writing to the database."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        with locked_database(url):
            yield
        return
    with closing(sqlite3.connect(str(parsed.database), isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize(("release", "step"), _STEPS)
def test_locked_database_loses_no_bot_and_no_data(
    site: Site, before: State, monkeypatch: pytest.MonkeyPatch, release: str, step: Step
) -> None:
    is_locked, threads = threading.Event(), list[threading.Thread]()

    def hold_lock() -> None:
        with locked_for_writing(site.settings.database_url):
            is_locked.set()
            time.sleep(_LOCKED_SECONDS)

    def lock() -> None:
        threads.append(threading.Thread(target=hold_lock))
        threads[0].start()
        assert is_locked.wait(60)

    at_step(monkeypatch, step, lock)
    update_id = site.update_to(RELEASES[release])
    run_jobs(site, update_id)
    threads[0].join()
    assert list(find_problems(site, update_id, release, before)) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The disk of the archives: small, and on this machine."""
    folder = tmp_path / "snapshots"
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "archives", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("is_freed", [True, False], ids=["freed", "stays full"])
@pytest.mark.parametrize(("release", "step"), [each for each in _STEPS if each[1] is not Step.PREFLIGHT])
def test_full_disk_loses_no_bot_and_no_data(  # noqa: PLR0917 - fixtures come by name
    site: Site,
    before: State,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
    step: Step,
    *,
    is_freed: bool,
) -> None:
    monkeypatch.setattr(retries, "WORKER_SECONDS", 2 * _FULL_SECONDS)
    filler = small_disk / "filler"
    timers = list[threading.Timer]()

    def fill() -> None:
        free = shutil.disk_usage(small_disk).free
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)
        assert shutil.disk_usage(small_disk).free == 0
        timers.append(threading.Timer(_FULL_SECONDS, filler.unlink))
        if is_freed:
            timers[0].start()

    at_step(monkeypatch, step, fill)
    update_id = site.update_to(RELEASES[release])
    run_jobs(site, update_id)
    if is_freed:
        timers[0].join()
    filler.unlink(missing_ok=True)
    assert list(find_problems(site, update_id, release, before)) == []


@pytest.mark.parametrize("release", RELEASES)
def test_two_workers_at_once_lose_no_bot_and_no_data(site: Site, before: State, release: str) -> None:
    update_id = site.update_to(RELEASES[release])
    workers = [threading.Thread(target=run_jobs, args=(site, update_id)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    run_jobs(site, update_id)
    assert list(find_problems(site, update_id, release, before)) == []

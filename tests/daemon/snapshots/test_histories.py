"""Restored volumes are equal to the originals after random changes before, between and after the passes.

`FLOTILLA_TEST_HISTORIES` is the number of histories; `make test-chaos` tries many.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from daemon.snapshots import snapshot_script, snapshot_taker
from daemon.snapshots.archives import Archive, SnapshotHelper
from daemon.snapshots.snapshot_taker import SnapshotTaker
from portal.models.base import new_id
from tests.support import volumes
from tests.support.histories import History

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

AT_ONCE = 6
"""Histories that share their helpers, each with a volume."""
HISTORIES = int(os.environ.get("FLOTILLA_TEST_HISTORIES", AT_ONCE))


@pytest.fixture
def roots(engine: docker.APIClient, helper: SnapshotHelper, run_labels: dict[str, str]) -> Iterator[dict[str, Path]]:
    """Folders of empty volumes by volume."""
    names = [f"volume-{new_id()}" for _ in range(AT_ONCE)]
    for name in names:
        engine.create_volume(name, labels=run_labels)
    found = {name: volumes.root_of(engine, name) for name in names}
    if not all(os.access(root, os.W_OK) for root in found.values()):
        pytest.skip("the volumes of the engine are not on this machine, or belong to another user")
    yield found
    helper.remove_all_helpers()
    for name in names:
        engine.remove_volume(name)


@pytest.fixture
def short_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the base contain what has not changed for one second. File systems of tests have precise times."""
    script = snapshot_script.SNAPSHOT.replace("margin=5", "margin=1")
    assert script != snapshot_script.SNAPSHOT
    monkeypatch.setattr(snapshot_taker, "SNAPSHOT", script)


@pytest.mark.usefixtures("short_margin")
@pytest.mark.parametrize("seed", range(0, HISTORIES, AT_ONCE))
def test_restored_volume_equals_the_original(
    helper: SnapshotHelper, roots: dict[str, Path], folder: str, seed: int
) -> None:
    histories = [History(root, seed + number) for number, root in enumerate(roots.values())]
    archives = _take_snapshots(helper, list(roots), histories, folder)
    before = [volumes.walk(root) for root in roots.values()]
    assert any((Path(archive.path) / "base.tar").exists() for archive in archives)

    for number, history in enumerate(histories):  # the new release
        history.change(number * 5)
        history.end()
    histories[-1].remove_everything()
    helper.restore(archives, compare_all=True)

    for number, root in enumerate(roots.values()):
        after = volumes.walk(root)
        assert after.keys() == before[number].keys(), seed + number
        for name, entry in before[number].items():
            assert after[name] == entry, (seed + number, name)


def _take_snapshots(helper: SnapshotHelper, names: list[str], histories: list[History], folder: str) -> list[Archive]:
    """Take the snapshots while the bots change their volumes, and stop the bots between the passes."""
    for history in histories:
        history.begin()
    time.sleep(2.1)
    helper.pull_image()
    taker = SnapshotTaker(helper, names, folder)
    taker.inspect()
    ended = threading.Event()
    bots = [threading.Thread(target=_run_bot, args=(history, ended)) for history in histories]
    for bot in bots:
        bot.start()
    taker.take_bases()
    ended.set()
    for bot in bots:
        bot.join()
    return taker.take_snapshots()


def _run_bot(history: History, ended: threading.Event) -> None:
    while not ended.is_set():
        history.change(1)
        ended.wait(0.1)
    history.change(3)

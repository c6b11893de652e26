"""Updates to a release that destroys data and crashes, one after another, while the volumes change all the time.

Every rollback has to restore the volumes as they were when the bot was stopped. Part of `make test-chaos`;
`FLOTILLA_TEST_FAILURES` is the number of updates.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from daemon.engine import containers
from daemon.snapshots import snapshot_script, snapshot_taker
from daemon.update.sequence import update_bot
from demo.versions import CORRUPTING_AND_CRASHING
from portal.models import UpdateState
from portal.services.bots import snapshots
from tests.support.histories import History
from tests.support.site import NOTE, Site, wait_until_answering
from tests.support.volumes import Entry

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.timeout(0)]

_FAILURES = int(os.environ.get("FLOTILLA_TEST_FAILURES", "200"))


class ForcedFailure:
    """One update that fails.

    Args:
        site: the node and the bot.
        seed: determines the changes of the volumes.
    """

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._folders = [root / "entries" for root in site.roots()]
        self._histories = [History(folder, 2 * seed + n) for n, folder in enumerate(self._folders)]
        self._update_id = ""
        self._stopping = threading.Event()
        self._bots = [threading.Thread(target=self._run_bot, args=(history,)) for history in self._histories]
        self.at_stop = list[dict[str, Entry]]()
        self.bases = 0

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the volumes change, and update the bot."""
        for folder, history in zip(self._folders, self._histories, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            history.begin()
        self._update_id = self._site.update_to(CORRUPTING_AND_CRASHING)
        with monkeypatch.context() as patches:
            patches.setattr(containers, "stop", self._after_the_bot_has_ended(containers.stop))
            patches.setattr(containers, "start", self._before_changes_of_the_release(containers.start))
            for bot in self._bots:
                bot.start()
            update_bot(self._site.database, self._site.settings, self._update_id)

    def list_problems(self) -> list[str]:
        """Return what is wrong after the update."""
        update, bot = self._site.update(self._update_id), self._site.bot()
        if update.state is not UpdateState.ROLLED_BACK or bot.needs_attention:
            return [f"state {update.state}, error {update.error}, attention {bot.needs_attention}"]
        wait_until_answering(self._site)
        problems = [f"leftover {name}" for name in self._site.leftovers()]
        if self._site.notes() != [NOTE]:
            problems.append(f"notes {self._site.notes()}")
        for before, after in zip(self.at_stop, self._site.contents(), strict=True):
            names = before.keys() | after.keys()
            problems += [f"wrong entry {name}" for name in sorted(names) if before.get(name) != after.get(name)]
        return problems

    def _run_bot(self, history: History) -> None:
        while not self._stopping.is_set():
            history.change(1)
            self._stopping.wait(0.02)
        history.change(3)
        history.end()

    def _after_the_bot_has_ended(self, stop: Callable[..., None]) -> Callable[..., None]:
        def stop_and_remember(engine: Any, container: str, *arguments: Any, **options: Any) -> None:
            self._stopping.set()
            for bot in self._bots:
                bot.join()
            stop(engine, container, *arguments, **options)
            if not self.at_stop:
                self.at_stop = self._site.contents()

        return stop_and_remember

    def _before_changes_of_the_release(self, start: Callable[..., None]) -> Callable[..., None]:
        def start_and_change(engine: Any, container: str) -> None:
            start(engine, container)
            if container == self._site.container:
                return
            with self._site.database.reading() as session:
                rows = snapshots.list_for_update(session, self._update_id)
            self.bases = sum((Path(row.archive) / "base.tar").exists() for row in rows)
            for history in self._histories:
                with suppress(OSError):  # the release removes files at the same time
                    history.change(10)
                history.end()

        return start_and_change


def test_every_forced_failure_restores_the_volumes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    script = snapshot_script.SNAPSHOT.replace("margin=5", "margin=1")
    assert script != snapshot_script.SNAPSHOT
    monkeypatch.setattr(snapshot_taker, "SNAPSHOT", script)
    problems, bases = list[str](), 0
    for seed in range(_FAILURES):
        failure = ForcedFailure(site, seed)
        failure.run(monkeypatch)
        problems += [f"update {seed}: {problem}" for problem in failure.list_problems()]
        bases += failure.bases
    assert not problems, "\n".join(problems)
    assert bases > _FAILURES, f"only {bases} of {2 * _FAILURES} snapshots used a base"

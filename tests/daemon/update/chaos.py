"""Updates in which one call to the engine fails, and what must be true afterwards. Used by `test_chaos`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from daemon.bots.leftover_collector import collect_node
from demo.versions import CORRUPTING_AND_CRASHING, FIRST, SECOND, BotVersion
from portal.models import BotUpdate, UpdateState, utcnow
from tests.daemon.update.forking_worker import ForkingWorker
from tests.support.faulty_engine import Call, Fault, FaultyEngine
from tests.support.site import NOTE, Site, wait_until_answering
from tests.support.volumes import Entry, fill_with_every_kind_of_entry

RELEASES = {"good": SECOND, "bad": CORRUPTING_AND_CRASHING}
_MAX_WORKERS = 8
"""So many workers may take an update over, one after another."""


@dataclass
class Chaos:
    """The parts of a run.

    Attributes:
        site: the node, without a bot.
        folder: for archives and the log of the workers.
        engine: the proxy, and `engine_url` its URL.
        worker: runs updates.
        log: the log of the workers.
        may_be_stopped: whether the engine may stop the bot, which the daemon then starts again.
    """

    site: Site
    folder: Path
    engine: FaultyEngine
    engine_url: str
    worker: ForkingWorker
    log: Path
    may_be_stopped: bool = False

    def record_calls(self, release: str) -> list[Call]:
        """Run an update without a fault, and return its calls."""
        return self.run(release, None, None)

    def run(
        self,
        release: str,
        call: Call | None,
        fault: Fault | None,
        during: AbstractContextManager[object] | None = None,
    ) -> list[Call]:
        """Run an update with one fault until it has ended and is cleaned up, and check the result.

        Args:
            release: key of `RELEASES`.
            call: the call that the fault hits.
            fault: the fault.
            during: what happens beside the update.

        Returns:
            The calls of the workers.

        Raises:
            AssertionError: something is wrong at the end; the message has all problems and the log.
        """
        site = self.site
        self.log.write_text("")
        site.add_bot(docker_url=self.engine_url, folder=self.folder)
        try:
            before = self._prepare()
            update_id = site.update_to(RELEASES[release])
            names = {site.container: "bot", site.name: "bot"}
            self.engine.prepare(names, call, fault, self.worker.kill)
            with during or nullcontext():
                self._run_workers(update_id)
            calls = list(self.engine.calls)
            self._collect_leftovers()
            if self.may_be_stopped:
                site.engine.start(str(site.bot().container_id))
            problems = [
                problem
                for problem in find_problems(site, update_id, release, before)
                if not (self.may_be_stopped and problem.startswith("skipped: stopped"))
            ]
        finally:
            site.remove()
        if problems:
            lines = [f"{release} release, {fault} at {call}:", *problems, "", self.log.read_text()]
            raise AssertionError("\n".join(lines))
        return calls

    def _prepare(self) -> State:
        for root in self.site.roots():
            (root / "entries").mkdir()
            fill_with_every_kind_of_entry(root / "entries")
        wait_until_answering(self.site)
        self.site.add_note(NOTE)
        return State(self.site.contents(), self.site.volumes(), self.site.inspect())

    def _run_workers(self, update_id: str) -> None:
        for _ in range(_MAX_WORKERS):
            self.worker.start(update_id, self._environment())
            self.worker.wait()
            self.site.expire_lease()
            if is_finished(self.site.update(update_id)):
                break

    def _collect_leftovers(self) -> None:
        # As the scheduler does every hour: the engine may have created a container after the worker gave up.
        self.engine.wait_for_late_calls()
        self.engine.prepare({})  # a fault that hit no worker must not hit this job
        collect_node(self.site.database, self.site.bot().node_id, utcnow())

    def _environment(self) -> dict[str, str]:
        settings = self.site.settings
        kept = {key: os.environ[key] for key in ("SECRET_KEY", "DATABASE_URL", "DATA_DIR")}
        return kept | {
            "FLEET_IMAGE_ALLOWLIST": ",".join(settings.fleet_image_allowlist),
            "SNAPSHOT_IMAGE": settings.snapshot_image,
            "REGISTRY_CONFIG": str(settings.registry_config),
            # Longer than any bot takes on a busy machine. The bad release fails at once.
            "HEALTH_TIMEOUT_SECONDS": "60",
            "HEALTH_INTERVAL_SECONDS": "0.5",
        }


@dataclass(frozen=True)
class State:
    """The bot before the update."""

    contents: list[dict[str, Entry]]
    volumes: list[str]
    container: dict[str, Any]


def find_problems(site: Site, update_id: str, release: str, before: State) -> Iterator[str]:
    """Yield what is wrong after a run."""
    update, bot = site.update(update_id), site.bot()
    yield from _find_wrong_outcomes(update, release)
    if bot.needs_attention:
        yield f"the bot needs attention: {bot.needs_attention}"
    if leftovers := site.leftovers():
        yield f"leftovers: {leftovers}"
    try:
        container = site.inspect()
    except Exception as error:  # noqa: BLE001 - another name, or no container at all
        yield f"no container has the name of the bot: {error}"
        return
    runs = SECOND if update.state is UpdateState.UPDATED else FIRST
    yield from _find_wrong_rows(site, container, runs)
    if container["HostConfig"]["RestartPolicy"]["Name"] != "unless-stopped":
        yield f"restart policy {container['HostConfig']['RestartPolicy']}"
    if not container["State"]["Running"]:
        yield f"the bot is down: {container['State']}"
        return
    yield from _find_wrong_data(site, before)


def is_finished(update: BotUpdate) -> bool:
    """Return whether an update has ended and is cleaned up."""
    if update.state in {UpdateState.SKIPPED, UpdateState.NEEDS_ATTENTION}:
        return True
    return update.state in BotUpdate.LEAVES_TRACES and update.cleaned_at is not None


def _find_wrong_outcomes(update: BotUpdate, release: str) -> Iterator[str]:
    described = f"state {update.state}, verdict {update.verdict}, transient {update.transient}, error {update.error}"
    blamed = update.state in {UpdateState.FAILED, UpdateState.ROLLED_BACK} and not update.transient
    if not is_finished(update):
        yield f"not finished: {described}"
    elif update.state is UpdateState.SKIPPED:
        yield f"skipped: {update.skip_reason}"
    elif release == "good" and blamed:
        yield f"a good release is blamed: {described}"
    elif release == "bad" and update.state is UpdateState.UPDATED:
        yield "updated to a bad release"


def _find_wrong_rows(site: Site, container: dict[str, Any], runs: BotVersion) -> Iterator[str]:
    bot = site.bot()
    if container["Config"]["Image"] != site.images.reference(runs):
        yield f"the container runs {container['Config']['Image']} instead of {runs.version}"
    if bot.container_id != container["Id"] or bot.current_digest != site.images.digest(runs):
        yield f"the row of the bot has another container or digest: {bot.container_id}, {bot.current_digest}"


def _find_wrong_data(site: Site, before: State) -> Iterator[str]:
    try:
        wait_until_answering(site)
    except (AssertionError, requests.RequestException) as error:
        yield f"the bot does not answer: {error}"
        return
    if site.notes() != [NOTE]:
        yield f"notes: {site.notes()}"
    if site.volumes() != before.volumes:
        yield f"volumes: {site.volumes()} instead of {before.volumes}"
    for now, then in zip(site.contents(), before.contents, strict=True):
        yield from (
            f"wrong entry {name}" for name in sorted(now.keys() | then.keys()) if now.get(name) != then.get(name)
        )

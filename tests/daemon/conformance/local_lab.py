"""A lab without containers: bots are processes of this machine, and volumes are folders."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from daemon.conformance.lab import Stopped
from daemon.conformance.outcomes import Skipped
from portal.paths import ROOT

GRACE_SECONDS = 3.0


class LocalBot:
    """The reference bot in a process."""

    def __init__(self, fault: str, root: Path, environment: Mapping[str, str]) -> None:
        """Start a bot on the folder `root` with a fault of `broken_bot`."""
        self._log = root.parent / f"{root.name}-{uuid4().hex}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.daemon.conformance.broken_bot", fault, str(root)],
                cwd=ROOT,
                env={**os.environ, "PORT": "0", **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def address(self) -> str | None:
        """Return `host:port` once the bot has printed its port."""
        match = re.search(r"listening on port (\d+)", self.log_tail())
        return f"127.0.0.1:{match[1]}" if match else None

    def problem(self) -> str | None:
        """Say why the process does not run, or None while it runs."""
        code = self._process.poll()
        return None if code is None else f"The container exited with status {code}."

    def log_tail(self) -> str:
        """Return the output."""
        return self._log.read_text(errors="replace")

    def changed_paths(self) -> Sequence[str]:
        """Return nothing, because a process shares the file system of this machine."""
        return []

    def stop(self) -> Stopped:
        """Send SIGTERM, wait, then kill."""
        self._process.terminate()
        try:
            return Stopped(self._process.wait(GRACE_SECONDS), signal.SIGTERM, killed=False)
        except subprocess.TimeoutExpired:
            self.kill()
            return Stopped(137, signal.SIGTERM, killed=True)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()


class LocalLab:
    """Starts reference bots with a fault; images are the names of faults."""

    def __init__(self, folder: Path) -> None:
        """Keep volumes in a folder."""
        self._folder = folder
        self._bots: list[LocalBot] = []

    def create_volumes(self) -> str:
        """Create an empty root folder."""
        root = self._folder / uuid4().hex
        for name in ("data", "paperclip", "app"):
            (root / name).mkdir(parents=True)
        (root / "app" / "behaviour.json").write_text('{"version": "1", "behaviour": "good", "start_seconds": 0}')
        return str(root)

    def copy_volumes(self, volumes: str, image: str) -> str:
        """Copy a root folder."""
        copy = self.create_volumes()
        shutil.copytree(volumes, copy, dirs_exist_ok=True)
        return copy

    def start(self, image: str, volumes: str, environment: Mapping[str, str]) -> LocalBot:
        """Start a bot with the fault that the image names."""
        bot = LocalBot(image, Path(volumes), environment)
        self._bots.append(bot)
        return bot

    def read_changelog(self, image: str) -> dict[str, Any] | None:
        """Skip the check, because there is no image."""
        raise Skipped("no image")

    def list_declared_volumes(self, image: str) -> Sequence[str]:
        """Skip the check, because there is no image."""
        raise Skipped("no image")

    def close(self) -> None:
        """End all bots."""
        for bot in self._bots:
            bot.kill()

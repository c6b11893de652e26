"""The platform's own processes, started with the commands of the Procfile and started again when they die."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.home import Home
from demo.processes import MissingRequirement
from portal.paths import ROOT

PROCESSES = ("redis", "web", "worker", "scheduler")


def environment(home: Home, snapshot_image: str) -> dict[str, str]:
    """The settings of the demo's platform, on top of this process's environment."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PORT": str(home.web_port),
        "FLOTILLA_ENV": "production",
        "SECRET_KEY": home.secret_key,
        "BASE_URL": home.base_url,
        "DATA_DIR": str(home.folder / "data"),
        "FLEET_IMAGE_ALLOWLIST": home.registry,
        "SNAPSHOT_IMAGE": snapshot_image,
        "POLL_SECONDS": "15",
        "HEALTH_TIMEOUT_SECONDS": "30",
        "HEALTH_INTERVAL_SECONDS": "1",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(home.smtp_port),
        "MAIL_SENDER": "Flotilla demo <flotilla@demo.example>",
    }


def flotilla(settings: Mapping[str, str], *arguments: str, stdin: str | None = None) -> str:
    """Run the `flotilla` command as an operator would and give what it prints.

    Raises:
        MachineError: it refused; the message is what it said.
    """
    return _run(settings, [sys.executable, "-m", "daemon.cli", *arguments], stdin)


def migrate(settings: Mapping[str, str]) -> None:
    """Bring the demo's database to the newest schema with the Procfile's release command.

    Raises:
        MachineError: with what the command said.
    """
    _run(settings, shlex.split(_procfile()["release"]))


def _run(settings: Mapping[str, str], command: list[str], stdin: str | None = None) -> str:
    result = subprocess.run(
        command, env=dict(settings), cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise MissingRequirement(f"{shlex.join(command)} failed:\n{result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def _procfile() -> dict[str, str]:
    lines = (line.partition(":") for line in (ROOT / "Procfile").read_text().splitlines() if ":" in line)
    return {name.strip(): command.strip() for name, _, command in lines if not name.startswith("#")}


@contextmanager
def running_platform(home: Home, settings: Mapping[str, str]) -> Iterator[Platform]:
    """Run web, worker, scheduler and Redis for the time of a `with` block.

    Raises:
        MachineError: the portal did not answer in time; the message says where its log is.
    """
    platform = Platform(dict(settings), home.folder / "logs")
    platform.start()
    try:
        _wait_for_portal(home)
        yield platform
    finally:
        platform.stop()


def _wait_for_portal(home: Home, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{home.base_url}/login", timeout=5):  # noqa: S310 - our own, on loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise MissingRequirement(f"the portal does not answer at {home.base_url}; see {home.folder / 'logs' / 'web.log'}")


@dataclass
class Platform:
    """The running processes. One that dies is started again a second later, as a process manager would do."""

    settings: dict[str, str]
    logs: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def start(self) -> None:
        """Start every process and begin to watch over them."""
        self.logs.mkdir(parents=True, exist_ok=True)
        # One thread starts and stops the children, for they get a signal when the thread that made them ends.
        self._watcher = threading.Thread(target=self._watch, name="demo processes")
        self._watcher.start()

    def stop(self) -> None:
        """Ask every process to end, the one that others depend on last."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            for name in PROCESSES:
                process = self._running.get(name)
                if process is not None and process.poll() is not None:
                    print(f"  {name} ended with status {process.returncode}; starting it again", flush=True)
                if process is None or process.poll() is not None:
                    self._running[name] = self._spawn(name)
            self._stopping.wait(1)
        for name in reversed(PROCESSES):
            _end(self._running[name])

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        command = f"exec {_procfile()[name]}"
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "sh", "-c", command],
                env=self.settings,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _end(process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

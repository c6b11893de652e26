"""The processes of a platform: start them as the Procfile says and restart them when they end. Used by the demo."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.config import DemoConfig
from demo.processes import DemoError, stop_process
from portal.paths import ROOT

PROCESSES = ("redis", "web", "gateway", "worker", "scheduler")
"""Names in the Procfile, in the order in which the processes start."""

_SECONDS_TO_STOP = 90


def build_environment(config: DemoConfig, snapshot_image: str) -> dict[str, str]:
    """Return this process's environment with the settings of the demo's platform."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PORT": str(config.web_port),
        "FLOTILLA_ENV": "production",
        "SECRET_KEY": config.secret_key,
        "BASE_URL": config.base_url,
        "BOTS_DOMAIN": config.bots_domain,
        "GATEWAY_PORT": str(config.gateway_port),
        "DATA_DIR": str(config.folder / "data"),
        "FLEET_IMAGE_ALLOWLIST": config.registry,
        "SNAPSHOT_IMAGE": snapshot_image,
        "POLL_SECONDS": "15",
        "HEALTH_TIMEOUT_SECONDS": "30",
        "HEALTH_INTERVAL_SECONDS": "1",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(config.smtp_port),
        "MAIL_SENDER": "Flotilla demo <flotilla@demo.example>",
        "UPSTREAM_REPO": str(config.folder / "fork" / "checkout"),
    }


def flotilla(
    settings: Mapping[str, str], *arguments: str, stdin: str | None = None, codes: Collection[int] = (0,)
) -> str:
    """Run the `flotilla` command and return its output.

    Args:
        settings: environment of the command.
        arguments: of the command.
        stdin: text for the command's standard input.
        codes: exit codes that mean success.

    Raises:
        DemoError: the command failed; the message contains its output.
    """
    return _run(settings, [sys.executable, "-m", "daemon.cli", *arguments], stdin, codes)


def migrate(settings: Mapping[str, str]) -> None:
    """Upgrade the database to the newest schema with the Procfile's release command.

    Raises:
        DemoError: the command failed; the message contains its output.
    """
    _run(settings, shlex.split(read_procfile()["release"]))


def _run(
    settings: Mapping[str, str], command: list[str], stdin: str | None = None, codes: Collection[int] = (0,)
) -> str:
    result = subprocess.run(
        command, env=dict(settings), cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
    )
    if result.returncode not in codes:
        raise DemoError(f"{shlex.join(command)} failed:\n{result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def read_procfile() -> dict[str, str]:
    """Return the commands of the Procfile by the name of their process."""
    lines = (line.partition(":") for line in (ROOT / "Procfile").read_text().splitlines() if ":" in line)
    return {name.strip(): command.strip() for name, _, command in lines if not name.startswith("#")}


@contextmanager
def running_platform(config: DemoConfig, settings: Mapping[str, str]) -> Iterator[Platform]:
    """Run the processes of the Procfile for the duration of a `with` block.

    Raises:
        DemoError: the portal did not answer in time; the message names its log.
    """
    platform = Platform(dict(settings), config.folder / "logs")
    platform.start()
    try:
        _wait_for_portal(config)
        yield platform
    finally:
        platform.stop()


def _wait_for_portal(config: DemoConfig, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{config.base_url}/login", timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise DemoError(f"the portal does not answer at {config.base_url}; see {config.folder / 'logs' / 'web.log'}")


@dataclass
class Platform:
    """The running processes. Like a process manager, it restarts a process within a second after its end."""

    settings: dict[str, str]
    logs: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _reload: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start all processes and the thread that supervises them."""
        self.logs.mkdir(parents=True, exist_ok=True)
        # The parent-death signal follows the thread that started a process, so one thread starts all of them.
        self._thread = threading.Thread(target=self._supervise, name="demo processes")
        self._thread.start()

    def reload(self) -> None:
        """Restart all processes except Redis, so that they run the current code."""
        self._reload.set()

    def stop(self) -> None:
        """Stop all processes, in the reverse order of their start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            if self._reload.is_set():
                self._reload.clear()
                self._stop_all(name for name in PROCESSES if name != "redis")
            for name in PROCESSES:
                process = self._running.get(name)
                if process is not None and process.poll() is not None:
                    print(f"  {name} ended with status {process.returncode}; starting it again", flush=True)
                if process is None or process.poll() is not None:
                    self._running[name] = self._spawn(name)
            self._stopping.wait(1)
        self._stop_all(reversed(PROCESSES))

    def _stop_all(self, names: Iterable[str]) -> None:
        for name in names:
            if (process := self._running.pop(name, None)) is not None:
                stop_process(process, seconds=_SECONDS_TO_STOP)

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        command = f"exec {read_procfile()[name]}"
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

"""Server programs that run as our children: start, wait until ready, stop."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LOG_LINES_SHOWN = 15


class MissingRequirement(RuntimeError):
    """A part of the machine is missing or did not start; the message says what to do."""


def free_port() -> int:
    """Return a TCP port that was free on loopback a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_program(name: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        MachineError: it is not installed; the message names the Debian package that has it.
    """
    # Server programs live in sbin folders, which are not on everybody's PATH.
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise MissingRequirement(f"{name} is not installed: apt-get install {package} (or make system)")
    return path


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run a server for the time of a `with` block.

    Args:
        command: program and arguments.
        log: file that gets everything the server prints.
        ready: asked again and again until it says that the server answers.
        user: account to run as, for servers which refuse root.
        stop_signal: what asks the server to end.

    Raises:
        MachineError: the server ended or did not become ready; the message has the last lines of its log.
    """
    # The signal at the death of the parent keeps a killed demo or test run from leaving servers behind;
    # the session of its own keeps Ctrl-C from stopping them before those who use them.
    wrapper = ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG")]
    if user is not None:
        wrapper += ["--reuid", user, "--regid", user, "--init-groups"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*wrapper, *command], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(process, ready, log)
        yield
    finally:
        _stop(process, stop_signal)


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", ready: Callable[[], bool], log: Path, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.05)
    outcome = "did not become ready" if process.poll() is None else f"ended with status {process.returncode}"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
    raise MissingRequirement(f"{process.args!r} {outcome}; the end of {log}:\n{tail}")


def _stop(process: "subprocess.Popen[bytes]", stop_signal: signal.Signals, seconds: float = 30) -> None:
    process.send_signal(stop_signal)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

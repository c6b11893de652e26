"""Server programs as child processes: start, wait until ready, stop. Used by demo, benchmarks and tests."""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOG_LINES_SHOWN = 15
_PORTS = range(10_000, 20_000)  # bots get ports from 20000, outgoing connections from 32768


class DemoError(RuntimeError):
    """The demo cannot continue; the message says why."""


class MissingRequirement(DemoError):
    """A program is missing on this machine or did not start; the message says what to do."""


def free_port() -> int:
    """Return a free TCP port on loopback, which other calls on this machine do not return soon.

    The kernel's own choice (port 0) is one of the ports of outgoing connections, so another process could take it
    before the server binds. These ports are below those, and a file that all processes share names the next one.
    """
    with (Path(tempfile.gettempdir()) / f"flotilla-next-port-{os.getuid()}").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        first = int(file.read() or secrets.choice(_PORTS)) - _PORTS.start
        for offset in range(len(_PORTS)):
            port = _PORTS[(first + offset) % len(_PORTS)]
            if _is_free(port):
                file.truncate(0)
                file.write(str(port + 1))
                return port
    raise MissingRequirement(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}: end programs that use them")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(is_done: Callable[[], bool], failure: str, seconds: float, *, interval: float = 0.5) -> None:
    """Wait until a condition holds.

    Args:
        is_done: the condition.
        failure: what did not happen, for the message of the error.
        seconds: time limit.
        interval: seconds between two evaluations.

    Raises:
        DemoError: the time is over.
    """
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise DemoError(f"{failure} within {seconds:.0f} seconds")
        time.sleep(interval)


def require_program(name: str, package: str) -> str:
    """Return the path of a program.

    Args:
        name: the program's file name.
        package: the Debian package that contains it.

    Raises:
        MissingRequirement: the program is not installed; the message names the package.
    """
    # Servers are installed in sbin folders, which are often missing from PATH.
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
    environment: Mapping[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server for the duration of a `with` block, and yield its process.

    Args:
        command: program and arguments.
        log: file that receives everything the server prints.
        ready: called repeatedly until it returns True, which means that the server answers.
        user: account to run the server as; some servers refuse to run as root.
        environment: its environment; None for the environment of this process.
        stop_signal: signal that stops the server.

    Raises:
        MissingRequirement: the server ended or did not become ready; the message has the last lines of its log.
    """
    # The parent-death signal stops the server when the demo or the test run is killed. The separate session keeps
    # Ctrl-C from stopping the server before the processes that use it.
    wrapper = ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG")]
    if user is not None:
        wrapper += ["--reuid", user, "--regid", user, "--init-groups"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*wrapper, *command],
            env=None if environment is None else dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, ready, log)
        yield process
    finally:
        stop_process(process, stop_signal, seconds=30)


def stop_process(
    process: "subprocess.Popen[bytes]", stop_signal: signal.Signals = signal.SIGTERM, *, seconds: float
) -> None:
    """Ask a process to end, wait for it, and kill it if it is still running after `seconds`."""
    process.send_signal(stop_signal)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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

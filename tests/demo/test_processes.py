"""Tests of server programs as child processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo.processes import MissingRequirement, free_port, require_program, running

READY_FILE_SERVER = (
    "import pathlib, sys, time; print('up', flush=True); pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
)
PARENT = """
import os, pathlib, sys
from demo.processes import running
folder = pathlib.Path(sys.argv[1])
server = [sys.executable, "-c", sys.argv[2], str(folder / "ready")]
with running(server, log=folder / "log", ready=(folder / "ready").exists):
    os.kill(os.getpid(), 9)
"""


def is_running(marker: str) -> bool:
    """Return whether a process has this text among its arguments."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # the process has ended
        if marker.encode() in arguments:
            return True
    return False


def test_server_runs_until_the_end_of_the_block(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", READY_FILE_SERVER, str(ready)]
    with running(command, log=tmp_path / "log", ready=ready.exists):
        assert is_running(str(ready))
    assert not is_running(str(ready))
    assert (tmp_path / "log").read_text() == "up\n"


def test_error_of_a_server_that_ends_contains_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
    with (
        pytest.raises(MissingRequirement, match=r"(?s)ended with status 1.*the disk is full"),
        running(command, log=tmp_path / "log", ready=lambda: False),
    ):
        pytest.fail("the server never ran")


def test_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.run(
        [sys.executable, "-c", PARENT, str(tmp_path), READY_FILE_SERVER], check=False, env=os.environ
    )
    assert parent.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while is_running(str(tmp_path / "ready")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "ready").exists()
    assert not is_running(str(tmp_path / "ready"))


def test_missing_program_names_its_package() -> None:
    with pytest.raises(MissingRequirement, match="apt-get install no-such-package"):
        require_program("no-such-program", "no-such-package")


def test_a_port_is_not_given_twice_and_never_to_an_outgoing_connection() -> None:
    script = "from demo.processes import free_port; print(*(free_port() for _ in range(20)))"
    runs = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ports = [int(port) for run in runs for port in run.communicate()[0].split()]

    assert len(set(ports)) == 60
    assert max(ports) < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_a_port_in_use_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr("demo.processes._PORTS", range(port, port + 1))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))

        with pytest.raises(MissingRequirement, match="no free port"):
            free_port()

    assert free_port() == port

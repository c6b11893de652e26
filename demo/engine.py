"""A private Docker engine with its own socket, data and bridge. Used by the demo, the benchmarks and the tests.

It runs beside the machine's engine and never sees the containers of that engine.
"""

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docker.errors import DockerException
from docker.utils import kwargs_from_env

from daemon.engine.client import Engine
from demo.processes import MissingRequirement, require_program, running


def existing_engine() -> str | None:
    """Return the address of the machine's Docker engine (`DOCKER_HOST` or the usual socket), or None without one."""
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        # The environment also names certificates. The client asks the engine for its version.
        Engine(**kwargs_from_env(), version="auto", timeout=5).close()
    except DockerException:
        return None
    return url


@contextmanager
def running_engine(folder: Path) -> Iterator[str]:
    """Run a private engine for the duration of a `with` block and yield its address.

    Images, containers and volumes stay in the folder, so a later engine in the same folder has them again.

    Args:
        folder: stores images, containers, volumes and the log.

    Raises:
        MissingRequirement: the user is not root, a program is missing, or the engine does not start.
    """
    if os.geteuid() != 0:
        raise MissingRequirement(
            "no Docker engine answers, and only root can start one: start Docker, set DOCKER_HOST, or use sudo"
        )
    dockerd = require_program("dockerd", "docker.io")
    name = _create_name(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The path of a socket has at most 107 bytes, so sockets do not go into the folder.
    runtime = Path("/run") / name
    _clear_runtime(runtime, folder)
    runtime.mkdir()
    socket_path = runtime / "docker.sock"
    url = f"unix://{socket_path}"
    command = [
        dockerd,
        f"--host={url}",
        f"--data-root={folder / 'data'}",
        f"--exec-root={runtime / 'exec'}",
        f"--pidfile={runtime / 'docker.pid'}",
        # Without its own bridge the engine would delete the bridge of the machine's engine.
        f"--bridge={name}",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]
    try:
        with _bridge(name), running(command, log=folder / "engine.log", ready=lambda: _is_ready(socket_path)):
            yield url
    finally:
        _clear_runtime(runtime, folder)


def _clear_runtime(runtime: Path, folder: Path) -> None:
    """Remove what a killed engine leaves: its mounts, and a pid file that would keep the next one from starting."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # The innermost first.
    for point in sorted(points, reverse=True):
        if runtime in point.parents or folder in point.parents:
            subprocess.run([require_program("umount", "mount"), "--lazy", point], capture_output=True, check=False)
    shutil.rmtree(runtime, ignore_errors=True)


def _is_ready(socket_path: Path) -> bool:
    # The Docker library leaks a socket when the engine does not listen yet, so this uses a plain socket.
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(socket_path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _create_name(folder: Path) -> str:
    # Names of network devices have at most 15 characters.
    return f"flotilla{hashlib.sha256(bytes(folder.resolve())).hexdigest()[:6]}"


@contextmanager
def _bridge(name: str) -> Iterator[None]:
    require_program("ip", "iproute2")
    _ip("link", "del", name, check=False)  # an engine that was killed leaves its bridge
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("address", "add", _choose_address(), "dev", name)
        _ip("link", "set", name, "up")
        yield
    finally:
        _ip("link", "del", name, check=False)


def _choose_address() -> str:
    devices = json.loads(_ip("-json", "-4", "address"))
    taken = {address["local"].rsplit(".", 1)[0] for device in devices for address in device["addr_info"]}
    networks = [f"10.177.{number}" for number in range(256)]
    return f"{random.choice([network for network in networks if network not in taken])}.1/24"  # noqa: S311


def _ip(*arguments: str, check: bool = True) -> str:
    result = subprocess.run(
        [require_program("ip", "iproute2"), *arguments], capture_output=True, text=True, check=False
    )
    if check and result.returncode != 0:
        raise MissingRequirement(f"ip {' '.join(arguments)} failed: {result.stderr.strip()}")
    return result.stdout

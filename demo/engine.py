"""A private Docker engine: its own socket, data, bridge; nobody else's containers are near it."""

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

import docker
from docker.errors import DockerException

from demo.processes import MissingRequirement, require_program, running


def existing_engine() -> str | None:
    """Return the address of the engine this machine offers us (`DOCKER_HOST` or the usual socket), if it answers."""
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        # The environment may also name certificates.
        docker.from_env(timeout=5).close()  # asks the engine for its version
    except DockerException:
        return None
    return url


@contextmanager
def running_engine(folder: Path) -> Iterator[str]:
    """Run a private engine for the time of a `with` block and give its address.

    The same folder gives the same engine again: images, containers and volumes stay in it.

    Args:
        folder: keeps images, containers, volumes and the log.

    Raises:
        MachineError: not root, a program is missing, or the engine does not start.
    """
    if os.geteuid() != 0:
        raise MissingRequirement(
            "no Docker engine answers, and only root can start one: start Docker, set DOCKER_HOST, or use sudo"
        )
    dockerd = require_program("dockerd", "docker.io")
    name = _name_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Sockets go to a short path, because a socket's path may have no more than 107 bytes.
    runtime = Path("/run") / name
    shutil.rmtree(runtime, ignore_errors=True)  # the pid file of a killed engine would stop the next one
    runtime.mkdir()
    socket_path = runtime / "docker.sock"
    url = f"unix://{socket_path}"
    command = [
        dockerd,
        f"--host={url}",
        f"--data-root={folder / 'data'}",
        f"--exec-root={runtime / 'exec'}",
        f"--pidfile={runtime / 'docker.pid'}",
        # An engine without a bridge of its own would take away the one of a first engine.
        f"--bridge={name}",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]
    try:
        with _bridge(name), running(command, log=folder / "engine.log", ready=lambda: _answers(socket_path)):
            yield url
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _answers(socket_path: Path) -> bool:
    # Not the Docker library: it leaks a socket whenever the engine does not listen yet.
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(socket_path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _name_of(folder: Path) -> str:
    # Names of network devices have at most 15 characters.
    return f"flotilla{hashlib.sha256(bytes(folder.resolve())).hexdigest()[:6]}"


@contextmanager
def _bridge(name: str) -> Iterator[None]:
    require_program("ip", "iproute2")
    _ip("link", "del", name, check=False)  # left by an engine that was killed
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("address", "add", _free_address(), "dev", name)
        _ip("link", "set", name, "up")
        yield
    finally:
        _ip("link", "del", name, check=False)


def _free_address() -> str:
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

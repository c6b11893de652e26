"""The demo's organizations and bots: containers started by hand, then adopted with the `flotilla` command.

Used by `make demo`; the benchmarks and tests use its functions for containers and notes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode
from urllib.request import urlopen

import docker
from docker.errors import NotFound

from demo.config import DemoConfig
from demo.images import BOT_REPOSITORY
from demo.platform import flotilla
from demo.processes import free_port

OPERATOR = "operator@demo.example"
NODE = "local"
TAG = "stable"


@dataclass(frozen=True)
class DemoBot:
    """A bot of the demo: the slug of its organization and the name of its container."""

    org: str
    name: str


ORGS = {"acme": "Acme Paper", "borealis": "Borealis Coffee", "cobalt": "Cobalt Dental"}
BOTS = (
    DemoBot("acme", "acme-front-desk"),
    DemoBot("acme", "acme-back-office"),
    DemoBot("borealis", "borealis-orders"),
    DemoBot("borealis", "borealis-support"),
    DemoBot("cobalt", "cobalt-reception"),
    DemoBot("cobalt", "cobalt-billing"),
)


def bot_image(config: DemoConfig) -> str:
    """Return the reference of the image that all bots of the demo run."""
    return f"{config.registry}/{BOT_REPOSITORY}:{TAG}"


def seed(config: DemoConfig, settings: Mapping[str, str], engine: docker.APIClient, docker_url: str) -> None:
    """Create the operator, the node, the organizations and the bots, unless an earlier start created them.

    Args:
        config: the configuration of the demo.
        settings: environment of the platform's processes.
        engine: a client of the Docker engine.
        docker_url: the engine's address, for the node.

    Raises:
        DemoError: a command failed; the message contains its output.
    """
    seeded = config.folder / "seeded"
    if seeded.exists():
        return
    create_operator_and_orgs(config, settings)
    snapshots = str(config.folder / "snapshots")
    flotilla(settings, "nodes", "add", NODE, "--docker-url", docker_url, "--snapshot-dir", snapshots)
    for bot in BOTS:
        address = start_container(engine, bot_image(config), bot.name, config.labels)
        write_note(address, f"The first note of {bot.name}")
        flotilla(settings, "bots", "adopt", bot.name, "--org", bot.org, "--node", NODE)
        print(f"  bot {bot.name} adopted", flush=True)
    seeded.touch()


def create_operator_and_orgs(config: DemoConfig, settings: Mapping[str, str]) -> None:
    """Create the operator and the organizations with the `flotilla` command.

    Raises:
        DemoError: a command failed; the message contains its output.
    """
    flotilla(settings, "admin", "create", OPERATOR, "--name", "Olga Operator", stdin=config.operator_password + "\n")
    for slug, name in ORGS.items():
        flotilla(settings, "orgs", "create", slug, "--name", name, "--owner", f"owner@{slug}.example")
        print(f"  organization {name}", flush=True)


def start_container(engine: docker.APIClient, image: str, name: str, labels: Mapping[str, str]) -> str:
    """Run a container with two named volumes, as an operator does without Flotilla.

    An existing container of the same name is replaced.

    Args:
        engine: a client of the Docker engine.
        image: reference of the image.
        name: name of the container, and prefix of its volumes.
        labels: labels of the container and the volumes.

    Returns:
        Host and port of the published bot.
    """
    with suppress(NotFound):
        engine.remove_container(name, force=True)
    volumes = {f"{name}-data": "/data", f"{name}-files": "/paperclip"}
    for volume in volumes:
        engine.create_volume(volume, labels=dict(labels))
    port = free_port()
    container = engine.create_container(
        image,
        name=name,
        labels=dict(labels),
        environment={"BOT_NAME": name},
        host_config=engine.create_host_config(
            binds={volume: {"bind": path, "mode": "rw"} for volume, path in volumes.items()},
            port_bindings={3100: ("127.0.0.1", port)},
            restart_policy={"Name": "unless-stopped"},
        ),
    )
    engine.start(container["Id"])
    return f"127.0.0.1:{port}"


def write_note(address: str, text: str) -> None:
    """Store a note in a bot, after waiting until the bot answers.

    Args:
        address: host and port of the bot.
        text: text of the note.

    Raises:
        OSError: the bot does not answer or refused the note.
    """
    wait_until_healthy(address)
    # Do not repeat this request: the bot may have stored the note although its answer was lost.
    with urlopen(f"http://{address}/notes", urlencode({"text": text}).encode(), timeout=30):
        pass


def wait_until_healthy(address: str, attempts: int = 100) -> None:
    """Wait until a bot answers.

    Args:
        address: host and port of the bot.
        attempts: how often it is asked, ten times a second.

    Raises:
        OSError: the bot does not answer.
    """
    for attempt in range(attempts):
        try:
            with urlopen(f"http://{address}/health", timeout=5):
                return
        except OSError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.1)


def read_notes(address: str) -> list[str]:
    """Return the notes of the bot at `address`, oldest first."""
    with urlopen(f"http://{address}/notes", timeout=5) as answer:
        notes: list[str] = json.load(answer)["notes"]
        return notes

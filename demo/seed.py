"""Fills the demo as operators and authors would: containers started by hand, then adopted with the command line."""

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

from demo.home import Home
from demo.images import BOT_REPOSITORY
from demo.platform import flotilla
from demo.processes import free_port

OPERATOR = "operator@demo.example"
NODE = "local"
TAG = "stable"


@dataclass(frozen=True)
class DemoBot:
    """A bot of the demo: its organization, and the name of the container that is started by hand."""

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


def bot_image(home: Home) -> str:
    """The reference all demo bots follow."""
    return f"{home.registry}/{BOT_REPOSITORY}:{TAG}"


def seed(home: Home, settings: Mapping[str, str], engine: docker.APIClient, docker_url: str) -> None:
    """Create the operator, the node, the organizations and the bots, unless an earlier start did.

    Raises:
        MachineError: a command was refused; the message is what it said.
    """
    if (home.folder / "seeded").exists():
        return
    flotilla(settings, "admin", "create", OPERATOR, "--name", "Olga Operator", stdin=home.operator_password + "\n")
    snapshots = str(home.folder / "snapshots")
    flotilla(settings, "nodes", "add", NODE, "--docker-url", docker_url, "--snapshot-dir", snapshots)
    for slug, name in ORGS.items():
        flotilla(settings, "orgs", "create", slug, "--name", name, "--owner", f"owner@{slug}.example")
        print(f"  organization {name}", flush=True)
    for bot in BOTS:
        address = start_by_hand(engine, bot_image(home), bot.name, home.labels)
        write_note(address, f"The first note of {bot.name}")
        flotilla(settings, "bots", "adopt", bot.name, "--org", bot.org, "--node", NODE)
        print(f"  bot {bot.name} adopted", flush=True)
    (home.folder / "seeded").touch()


def start_by_hand(engine: docker.APIClient, image: str, name: str, labels: Mapping[str, str]) -> str:
    """Run a container as an operator without Flotilla would, with two named volumes; a leftover one is replaced.

    Returns:
        The address it is published at.
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
    """Keep a note in a bot, waiting for a bot that has only just been started.

    Raises:
        OSError: the bot does not answer, or did not take the note.
    """
    _wait_until_it_answers(address)
    # Written once: an answer that got lost does not mean that the note did.
    with urlopen(f"http://{address}/notes", urlencode({"text": text}).encode(), timeout=30):
        pass


def _wait_until_it_answers(address: str, patience: int = 100) -> None:
    for attempt in range(patience):
        try:
            with urlopen(f"http://{address}/health", timeout=5):
                return
        except OSError:
            if attempt == patience - 1:
                raise
            time.sleep(0.1)


def read_notes(address: str) -> list[str]:
    """The notes a bot has."""
    with urlopen(f"http://{address}/notes", timeout=5) as answer:
        notes: list[str] = json.load(answer)["notes"]
        return notes

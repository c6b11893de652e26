"""`flotilla nodes`: the Docker engines that bots run on."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace

import click

from daemon.commands.output import table
from daemon.context import current_context
from daemon.engine.client import connect
from portal.models import Node
from portal.services.bots import nodes as service
from portal.services.bots.nodes import NodeSpec


@click.group()
def nodes() -> None:
    """The Docker engines that bots run on."""


@nodes.command("list")
def list_() -> None:
    """Show all nodes, whether they answer, and what was wrong last."""
    with current_context().database.reading() as session:
        table(
            ("NAME", "STATE", "ENGINE", "PLATFORM", "LAST SEEN", "LAST ERROR"),
            [
                (node.name, node.state, node.docker_url, node.platform, node.last_seen_at, node.last_error)
                for node in service.list_nodes(session)
            ],
        )


@nodes.command()
@click.argument("name")
@click.option("--docker-url", required=True, help="Such as unix:///var/run/docker.sock or tcp://host:2376.")
@click.option("--snapshot-dir", required=True, help="Folder on the node's own disk for snapshots of volumes.")
@click.option("--bot-host", default="127.0.0.1", show_default=True, help="Where published ports are reached.")
@click.option("--ports", default="20000-29999", show_default=True, help="Range of ports for new bots.")
@click.option("--tls-ca", type=click.Path(), help="Certificate authority of an engine reached over TCP.")
@click.option("--tls-cert", type=click.Path(), help="Our certificate for it.")
@click.option("--tls-key", type=click.Path(), help="The key of our certificate.")
def add(name: str, docker_url: str, snapshot_dir: str, bot_host: str, ports: str, **tls_paths: str | None) -> None:
    """Take a Docker engine into the fleet as NAME. The engine must answer, for it tells its platform."""
    first, last = _range(ports)
    tls = {key.removeprefix("tls_"): path for key, path in tls_paths.items() if path} or None
    node = NodeSpec(
        name=name,
        docker_url=docker_url,
        snapshot_dir=snapshot_dir,
        bot_host=bot_host,
        port_first=first,
        port_last=last,
        tls=tls,
    )
    service.validate_spec(node)
    platform, engine_id = _identity(node)
    with current_context().database.transaction() as session:
        service.add_node(session, replace(node, platform=platform, engine_id=engine_id))
    click.echo(f"Node {name} ({platform}) belongs to the fleet now.")


@nodes.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the node NAME. No bot may be on it; its Docker engine is left as it is."""
    with current_context().database.transaction() as session:
        service.remove_node(session, service.get_by_name(session, name))
    click.echo(f"Node {name} does not belong to the fleet any more.")


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None:
        raise click.BadParameter("Give the first and the last port, such as 20000-29999.", param_hint="--ports")
    return int(match[1]), int(match[2])


def _identity(new: NodeSpec) -> tuple[str, str | None]:
    """The engine's platform, and what it calls itself."""
    with closing(connect(Node(name=new.name, docker_url=new.docker_url, tls=new.tls))) as engine:
        version, info = engine.version(), engine.info()
    return f"{version['Os']}/{version['Arch']}", info.get("ID") or None

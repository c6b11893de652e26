"""`flotilla nodes`: list, add and remove nodes."""

from __future__ import annotations

import re
from dataclasses import replace

import click

from daemon.commands.output import print_table
from daemon.context import current_context
from daemon.engine.client import open_engine, rejecting_malformed_answers
from portal.models import Node
from portal.services.bots import nodes as service
from portal.services.bots.nodes import NodeSpec


@click.group()
def nodes() -> None:
    """Manage nodes, the Docker engines on which bots run."""


@nodes.command("list")
def list_() -> None:
    """List all nodes with their state and last error."""
    with current_context().database.reading() as session:
        print_table(
            ("NAME", "STATE", "ENGINE", "PLATFORM", "LAST SEEN", "LAST ERROR"),
            [
                (node.name, node.state, node.docker_url, node.platform, node.last_seen_at, node.last_error)
                for node in service.list_nodes(session)
            ],
        )


@nodes.command()
@click.argument("name")
@click.option("--docker-url", required=True, help="For example unix:///var/run/docker.sock or tcp://host:2376.")
@click.option("--snapshot-dir", required=True, help="Folder on the node for snapshots of volumes.")
@click.option(
    "--bot-host",
    default="127.0.0.1",
    show_default=True,
    help="Host name or address under which published ports are reached.",
)
@click.option("--ports", default="20000-29999", show_default=True, help="Port range for new bots.")
@click.option("--tls-ca", type=click.Path(), help="CA certificate of an engine reached by TCP.")
@click.option("--tls-cert", type=click.Path(), help="Client certificate for the engine.")
@click.option("--tls-key", type=click.Path(), help="Key of the client certificate.")
def add(name: str, docker_url: str, snapshot_dir: str, bot_host: str, ports: str, **tls_paths: str | None) -> None:
    """Add a Docker engine to the fleet as NAME. The engine must be reachable, because its platform is recorded."""
    first, last = _parse_port_range(ports)
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
    platform, engine_id = _identify_engine(node)
    with current_context().database.transaction() as session:
        service.add_node(session, replace(node, platform=platform, engine_id=engine_id))
    click.echo(f"Added the node {name} ({platform}).")


@nodes.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the node NAME, which must have no bots. Its Docker engine is not changed."""
    with current_context().database.transaction() as session:
        service.remove_node(session, service.get_by_name(session, name))
    click.echo(f"Removed the node {name}.")


def _parse_port_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None:
        raise click.BadParameter("Enter the first and the last port, for example 20000-29999.", param_hint="--ports")
    return int(match[1]), int(match[2])


def _identify_engine(node: NodeSpec) -> tuple[str, str | None]:
    """Return the platform and the id of the node's engine."""
    row = Node(name=node.name, docker_url=node.docker_url, tls=node.tls)
    with open_engine(row) as engine, rejecting_malformed_answers(row):
        version, info = engine.version(), engine.info()
        return f"{version['Os']}/{version['Arch']}", info.get("ID") or None

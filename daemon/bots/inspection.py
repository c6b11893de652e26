"""Inspection of a running container that is to become a bot's container. Used by `adopt` and `attach`.

The inspection only reads from the engine; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import NotFound

from daemon.engine import containers
from daemon.engine.addresses import read_address
from daemon.engine.health_probe import HealthCheck, ProbeResult, probe
from daemon.engine.labels import update_id_of
from daemon.engine.recreate.capture import CannotRecreate, capture
from daemon.engine.recreate.mounts import unprotected_paths
from portal.database import Database
from portal.models import Bot, Channel, Node
from portal.rules.allowlist import Allowlist
from portal.rules.references import InvalidReference, Reference, parse_reference
from portal.services.bots import bots, subdomains
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.settings import Settings

_DEFAULT_PORT = 3100
_MAX_LISTED_PATHS = 5
_DELETED = 2
"""Kind of a deleted file in the engine's list of changes."""


@dataclass(frozen=True, kw_only=True)
class AdoptOptions:
    """How to manage a container. None means that the value is read from the container.

    Attributes:
        image: reference with the tag to follow; by default that of the container.
        name: display name of the bot; by default the name of the container.
        subdomain: subdomain of the bot; by default derived from the name.
        port: port on which the bot listens in the container; by default 3100, or the only one that it exposes.
        health_path: path of the health check.
        channel: release channel.
    """

    image: str | None = None
    name: str | None = None
    subdomain: str | None = None
    port: int | None = None
    health_path: str = "/health"
    channel: Channel = Channel.STABLE


@dataclass(frozen=True)
class Inspection:
    """A container that can be managed, with warnings for the operator: unprotected data, a failed health check."""

    container: bots.FoundContainer
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Adoption:
    """Result of `adopt` and `attach`: the bot, with warnings for the operator."""

    bot: Bot
    warnings: tuple[str, ...]


def inspect_container(  # noqa: PLR0917 - both callers have all of these
    engine: docker.APIClient,
    database: Database,
    settings: Settings,
    container: str,
    node: Node,
    options: AdoptOptions,
) -> Inspection:
    """Inspect a running container and check that Flotilla can manage it.

    Args:
        engine: the node's engine.
        database: database of this installation.
        settings: settings, for the allowlist.
        container: name or id of the container.
        node: the node on which it runs.
        options: values that replace those of the container.

    Raises:
        NotFoundError: there is no such container.
        InvalidError: the image has no tag to follow, or the port is ambiguous.
        ImageNotAllowed: the image is outside the allowlist.
        ConflictError: the container cannot be managed, or is already managed.
    """
    saved = _capture(engine, node, container)
    inspect = saved["container"]
    with database.reading() as session:
        bots.require_unmanaged(session, node.id, inspect["Id"])
    image = _find_image(saved, options)
    Allowlist.parse(settings.fleet_image_allowlist).require(image)
    port = options.port or _find_port(inspect)
    address = _require_address(inspect, node, port)
    health = probe(address, HealthCheck(options.health_path))
    name = options.name or containers.name_of_container(inspect)
    found = bots.FoundContainer(
        node_id=node.id,
        container_id=inspect["Id"],
        container_name=containers.name_of_container(inspect),
        name=name,
        subdomain=options.subdomain or subdomains.suggest_subdomain(name),
        image=image,
        digest=_find_digest(saved, image),
        address=address,
        port=port,
        health_path=options.health_path,
        spec=saved,
        unprotected=unprotected_paths(inspect),
        channel=options.channel,
        healthy=health.ok,
    )
    return Inspection(found, tuple(_list_warnings(engine, found, health)))


def join_paths(paths: list[str]) -> str:
    """Join paths or names for a message; after the first five only the number of the others is given."""
    more = len(paths) - _MAX_LISTED_PATHS
    return ", ".join(paths[:_MAX_LISTED_PATHS]) + (f" and {more} more" if more > 0 else "")


def _capture(engine: docker.APIClient, node: Node, container: str) -> dict[str, Any]:
    try:
        saved = capture(engine, container)
    except NotFound:
        raise NotFoundError(f"There is no container {container} on node {node.name}.") from None
    except CannotRecreate as error:
        raise ConflictError(str(error)) from None
    inspect = saved["container"]
    if update_id_of(containers.name_of_container(inspect)):
        raise ConflictError(f"{container} is a temporary container of an update and cannot become a bot.")
    if not inspect["State"]["Running"]:
        raise ConflictError(f"{container} is not running, so its address is unknown. Start it first.")
    return saved


def _find_image(saved: dict[str, Any], options: AdoptOptions) -> Reference:
    """Return the reference with the tag that the bot is to follow."""
    text = options.image or str(saved["container"]["Config"]["Image"])
    is_id = saved["image"]["Id"].removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
    try:
        reference = None if is_id else parse_reference(text)
    except InvalidReference as error:
        raise InvalidError(str(error), "image") from None
    if reference is None or reference.digest:
        raise InvalidError(
            f"{text} names one fixed image, so there is no tag to follow. Choose a tag with --image"
            " registry/repository:tag.",
            "image",
        )
    return reference


def _find_digest(saved: dict[str, Any], image: Reference) -> str | None:
    """Return the digest of the running image in the repository of `image`, or None if it has none there."""
    known = (parse_reference(text) for text in saved["image"].get("RepoDigests") or [])
    return next((reference.digest for reference in known if reference.name == image.name), None)


def _find_port(inspect: dict[str, Any]) -> int:
    exposed = inspect["Config"].get("ExposedPorts") or {}
    ports = sorted(int(port.split("/")[0]) for port in exposed if port.endswith("/tcp"))
    if _DEFAULT_PORT in ports or not ports:
        return _DEFAULT_PORT
    if len(ports) > 1:
        listed = ", ".join(map(str, ports))
        raise InvalidError(f"The container exposes the ports {listed}. Choose the bot's port with --port.", "port")
    return ports[0]


def _require_address(inspect: dict[str, Any], node: Node, port: int) -> str:
    address = read_address(inspect, node, port)
    if address is None:
        raise ConflictError(
            f"Port {port} of {containers.name_of_container(inspect)} cannot be reached: it is not published, and the"
            " container has no address in a network of this machine. Publish the port (docker run -p), or choose"
            " another port with --port."
        )
    return address


def _list_warnings(engine: docker.APIClient, found: bots.FoundContainer, health: ProbeResult) -> Iterator[str]:
    if not health.ok:
        yield (
            f"The health check http://{found.address}{found.health_path} fails: {health.detail}. Updates of this bot"
            " will fail too."
        )
    if found.digest is None:
        yield f"The running release of {found.image.name} is unknown, so the bot counts as outdated."
    if found.unprotected:
        yield (
            f"Snapshots do not include the folders of the node at {join_paths(found.unprotected)}. Use volumes for"
            " data."
        )
    if written := _written_paths(engine, found.container_id):
        yield f"An update deletes what the container has written at {join_paths(written)}. Use volumes for data."


def _written_paths(engine: docker.APIClient, container_id: str) -> list[str]:
    """Return the paths that a container wrote to its own layer, without folders of other paths in the list."""
    changes = engine.diff(container_id) or []
    paths = sorted(str(change["Path"]) for change in changes if change["Kind"] != _DELETED)
    return [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]

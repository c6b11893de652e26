"""Takes a container somebody started by hand under management, as a new bot or as one whose own is gone.

On the engine nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import NotFound

from daemon.bot_lease import BotLease
from daemon.engine import containers
from daemon.engine.client import connect
from daemon.engine.health_probe import ProbeResult, probe, read_address
from daemon.engine.labels import update_id_of
from daemon.engine.recreate.capture import CannotRecreate, capture
from daemon.engine.recreate.mounts import unprotected_paths, writable_volumes
from portal.database import Database
from portal.models import Bot, Channel, Node
from portal.rules.allowlist import Allowlist
from portal.rules.references import InvalidReference, Reference, parse_reference
from portal.services import lookup
from portal.services.bots import bots, nodes
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.settings import Settings

_USUAL_PORT = 3100
_MOST_PATHS_TOLD = 5
_DELETED = 2
"""How the engine marks what is gone from a container's layer."""


@dataclass(frozen=True, kw_only=True)
class AdoptOptions:
    """What the operator says of a container beyond its name; None leaves it to what is found.

    Attributes:
        image: reference with a tag to follow, where the container's own has none.
        name: what people call the bot; otherwise the container's name.
        subdomain: where the bot is opened; otherwise made of the name.
        port: that the bot listens on in the container; otherwise 3100, or the only one it exposes.
        health_path: of the health check.
        channel: how often the image is polled.
    """

    image: str | None = None
    name: str | None = None
    subdomain: str | None = None
    port: int | None = None
    health_path: str = "/health"
    channel: Channel = Channel.STABLE


@dataclass(frozen=True)
class _Reach:
    """Where the bot listens, and what it answered there."""

    port: int
    address: str
    answer: ProbeResult


@dataclass(frozen=True)
class Adoption:
    """The bot, and what its operator should know: unprotected data, a health check that fails."""

    bot: Bot
    warnings: tuple[str, ...]


def adopt(
    database: Database,
    settings: Settings,
    container: str,
    *,
    node: str,
    org: str,
    options: AdoptOptions | None = None,
    actor_id: str | None = None,
) -> Adoption:
    """Make an existing container the bot of an organization.

    Args:
        database: of this installation.
        settings: for the allowlist.
        container: name or id.
        node: name of the node it runs on.
        org: slug of the organization.
        wishes: what the operator wants otherwise.
        actor_id: the operator.

    Raises:
        NotFoundError: there is no such node, organization or container.
        InvalidError: the image has no tag to follow, or the port is not clear.
        ImageNotAllowed: the image is outside the allowlist.
        ConflictError: the container cannot be managed, or is already.
        EngineUnreachable: the node does not answer.
    """
    options = options or AdoptOptions()
    with database.reading() as session:
        on = nodes.get_by_name(session, node)
        bots.require_active_org(session, org)
    with closing(connect(on)) as engine:
        found, warnings = _look(engine, database, settings, container, on, options)
    with database.transaction() as session:
        return Adoption(bots.add_adopted(session, org, found, actor=actor_id), warnings)


def attach(database: Database, settings: Settings, name: str, container: str) -> Adoption:
    """Let a bot whose container is gone go on in another, which somebody made in its place.

    Args:
        database: of this installation.
        settings: for the allowlist.
        name: the bot's id, subdomain or name.
        container: name or id, on the bot's node.

    Raises:
        NotFoundError: there is no such bot or container.
        ImageNotAllowed: the image is outside the allowlist.
        ConflictError: the bot's own container is still there, somebody is at work on the bot, or the container
            cannot be managed, or is already.
        EngineUnreachable: the node does not answer.
    """
    with database.reading() as session:
        bot = lookup.find_bot(session, name)
        node = bot.node
    same = AdoptOptions(
        image=bot.image,
        name=bot.name,
        subdomain=bot.subdomain,
        port=bot.port,
        health_path=bot.health_path,
        channel=bot.release_channel,
    )
    with BotLease(database, bot.id) as lease:
        with closing(connect(node)) as engine:
            if containers.inspect(engine, bot.container_id):
                raise ConflictError(
                    f"The container of {bot.name}, {str(bot.container_id)[:12]}, is still there: start it again,"
                    " or remove it first, without its volumes."
                )
            found, warnings = _look(engine, database, settings, container, node, same)
        with lease.transaction() as session:
            return Adoption(bots.attach_container(session, bot.id, found), (*warnings, *_missing_data(bot, found)))


def _look(  # noqa: PLR0917 - what both ways in have at hand
    engine: docker.APIClient,
    database: Database,
    settings: Settings,
    container: str,
    node: Node,
    options: AdoptOptions,
) -> tuple[bots.FoundContainer, tuple[str, ...]]:
    """The container as the bot it would be, with what its operator should know."""
    saved = _capture(engine, node, container)
    inspect = saved["container"]
    with database.reading() as session:
        bots.require_unmanaged(session, node.id, inspect["Id"])
    image = _image(saved, options)
    Allowlist.parse(settings.fleet_image_allowlist).require(image)
    reach = _reach(inspect, node, options)
    found = _found(saved, node, options, image, reach)
    return found, tuple(_warnings(engine, found, reach.answer))


def _capture(engine: docker.APIClient, node: Node, container: str) -> dict[str, Any]:
    try:
        saved = capture(engine, container)
    except NotFound:
        raise NotFoundError(f"There is no container {container} on node {node.name}.") from None
    except CannotRecreate as error:
        raise ConflictError(str(error)) from None
    inspect = saved["container"]
    if update_id_of(containers.name_of_container(inspect)):
        raise ConflictError(f"{container} is a temporary container of an update; it cannot be adopted.")
    if not inspect["State"]["Running"]:
        raise ConflictError(f"{container} is not running, so its address is not known; start it first.")
    return saved


def _image(saved: dict[str, Any], options: AdoptOptions) -> Reference:
    """The reference with a tag that the bot is to follow."""
    text = options.image or str(saved["container"]["Config"]["Image"])
    is_id = saved["image"]["Id"].removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
    try:
        reference = None if is_id else parse_reference(text)
    except InvalidReference as error:
        raise InvalidError(str(error), "image") from None
    if reference is None or reference.digest:
        raise InvalidError(
            f"{text} names one image for ever, so there is no tag to follow;"
            " say which to follow with --image registry/repository:tag.",
            "image",
        )
    return reference


def _digest(saved: dict[str, Any], image: Reference) -> str | None:
    """The digest under which the image's own repository knows what runs; other repositories do not count."""
    known = (parse_reference(text) for text in saved["image"].get("RepoDigests") or [])
    return next((reference.digest for reference in known if reference.name == image.name), None)


def _reach(inspect: dict[str, Any], node: Node, options: AdoptOptions) -> _Reach:
    port = options.port or _likely_port(inspect)
    address = _address(inspect, node, port)
    return _Reach(port, address, probe(address, options.health_path))


def _likely_port(inspect: dict[str, Any]) -> int:
    exposed = inspect["Config"].get("ExposedPorts") or {}
    ports = sorted(int(port.split("/")[0]) for port in exposed if port.endswith("/tcp"))
    if _USUAL_PORT in ports or not ports:
        return _USUAL_PORT
    if len(ports) > 1:
        listed = ", ".join(map(str, ports))
        raise InvalidError(f"The container exposes the ports {listed}; say which is the bot's with --port.", "port")
    return ports[0]


def _address(inspect: dict[str, Any], node: Node, port: int) -> str:
    address = read_address(inspect, node, port)
    if address is None:
        raise ConflictError(
            f"Port {port} of {containers.name_of_container(inspect)} cannot be reached: it is not published, and it has no"
            " address in a network of this machine. Publish the port (docker run -p), or say which is the bot's with"
            " --port."
        )
    return address


def _found(
    saved: dict[str, Any], node: Node, options: AdoptOptions, image: Reference, reach: _Reach
) -> bots.FoundContainer:
    inspect = saved["container"]
    name = options.name or containers.name_of_container(inspect)
    return bots.FoundContainer(
        node_id=node.id,
        container_id=inspect["Id"],
        container_name=containers.name_of_container(inspect),
        name=name,
        subdomain=options.subdomain or bots.suggest_subdomain(name),
        image=image,
        digest=_digest(saved, image),
        address=reach.address,
        port=reach.port,
        health_path=options.health_path,
        spec=saved,
        unprotected=unprotected_paths(inspect),
        channel=options.channel,
        healthy=reach.answer.ok,
    )


def _warnings(engine: docker.APIClient, found: bots.FoundContainer, answer: ProbeResult) -> Iterator[str]:
    if not answer.ok:
        yield f"Its health check http://{found.address}{found.health_path} says: {answer.detail}. Updates will fail."
    if found.digest is None:
        yield f"The engine does not know which release of {found.image.name} runs, so the bot counts as behind."
    if found.unprotected:
        yield f"No snapshot protects the folders of the node at {_listed(found.unprotected)}; use volumes for data."
    if own := _written_paths(engine, found.container_id):
        yield f"An update loses what was written inside the container at {_listed(own)}; use volumes for data."


def _missing_data(bot: Bot, found: bots.FoundContainer) -> Iterator[str]:
    before, now = (
        {volume.name for volume in writable_volumes(spec["container"])} if spec else set()
        for spec in (bot.spec, found.spec)
    )
    if before - now:
        yield f"It does not mount {_listed(sorted(before - now))}, which the container before it kept data in."


def _written_paths(engine: docker.APIClient, container_id: str) -> list[str]:
    """What the container wrote to its own layer; of a folder and what is in it only the latter."""
    changes = engine.diff(container_id) or []
    paths = sorted(str(change["Path"]) for change in changes if change["Kind"] != _DELETED)
    return [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]


def _listed(paths: list[str]) -> str:
    more = len(paths) - _MOST_PATHS_TOLD
    return ", ".join(paths[:_MOST_PATHS_TOLD]) + (f" and {more} more" if more > 0 else "")

"""Attaching: a bot whose container is gone gets another container. Used by `flotilla bots attach`."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.bot_lease import BotLease
from daemon.bots.inspection import Adoption, AdoptOptions, inspect_container, join_paths
from daemon.engine import containers
from daemon.engine.client import open_engine
from daemon.engine.recreate.mounts import writable_volumes
from portal.database import Database
from portal.models import Bot, utcnow
from portal.services import lookup
from portal.services.bots import bots
from portal.services.errors import ConflictError
from portal.settings import Settings


def attach(database: Database, settings: Settings, name: str, container: str) -> Adoption:
    """Attach a running container to a bot whose own container is gone, without changing anything on the engine.

    Args:
        database: database of this installation.
        settings: settings, for the allowlist.
        name: id, subdomain or name of the bot.
        container: name or id of the container, on the bot's node.

    Raises:
        NotFoundError: there is no such bot or container.
        ImageNotAllowed: the image is outside the allowlist.
        ConflictError: the bot's own container still exists, another worker holds the bot's lease, or the container
            cannot be managed or is already managed.
        EngineUnreachable: the node does not answer.
    """
    with database.reading() as session:
        bot = lookup.find_bot(session, name)
        node = bot.node
    options = AdoptOptions(
        image=bot.image,
        name=bot.name,
        subdomain=bot.subdomain,
        port=bot.port,
        health_path=bot.health_path,
        channel=bot.release_channel,
    )
    with BotLease(database, bot.id) as lease:
        with open_engine(node) as engine:
            if containers.inspect(engine, bot.container_id):
                raise ConflictError(
                    f"The container of {bot.name}, {str(bot.container_id)[:12]}, still exists. Start it again, or"
                    " remove it without its volumes first."
                )
            inspection = inspect_container(engine, database, settings, container, node, options)
        warnings = (*inspection.warnings, *_list_missing_volumes(bot, inspection.container))
        with lease.transaction() as session:
            return Adoption(bots.attach_container(session, bot.id, inspection.container, now=utcnow()), warnings)


def _list_missing_volumes(bot: Bot, found: bots.FoundContainer) -> Iterator[str]:
    before, after = (
        {volume.name for volume in writable_volumes(spec["container"])} if spec else set()
        for spec in (bot.spec, found.spec)
    )
    if missing := sorted(before - after):
        yield f"The container does not mount {join_paths(missing)}, where the previous container kept data."

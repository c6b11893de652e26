"""Adoption: a running container becomes a new bot of an organization. Used by `flotilla bots adopt`."""

from __future__ import annotations

from daemon.bots.inspection import Adoption, AdoptOptions, inspect_container
from daemon.engine.client import open_engine
from portal.database import Database
from portal.models import utcnow
from portal.services.bots import bots, nodes
from portal.services.events import Actor
from portal.settings import Settings


def adopt(
    database: Database,
    settings: Settings,
    container: str,
    *,
    node: str,
    org: str,
    options: AdoptOptions | None = None,
    actor: Actor = None,
) -> Adoption:
    """Make a running container the bot of an organization, without changing anything on the engine.

    Args:
        database: database of this installation.
        settings: settings, for the allowlist.
        container: name or id of the container.
        node: name of the node on which it runs.
        org: slug of the organization.
        options: values that replace those of the container.
        actor: the operator.

    Raises:
        NotFoundError: there is no such node, organization or container.
        InvalidError: the image has no tag to follow, the port is ambiguous, or the subdomain is not valid.
        ImageNotAllowed: the image is outside the allowlist.
        ConflictError: the container cannot be managed or is already managed, or the subdomain is taken.
        EngineUnreachable: the node does not answer.
    """
    with database.reading() as session:
        found_node = nodes.get_by_name(session, node)
        bots.require_active_org(session, org)
    with open_engine(found_node) as engine:
        inspection = inspect_container(engine, database, settings, container, found_node, options or AdoptOptions())
    with database.transaction() as session:
        bot = bots.add_adopted(session, org, inspection.container, now=utcnow(), actor=actor)
        return Adoption(bot, inspection.warnings)

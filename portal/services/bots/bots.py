"""Bots joining the fleet, and going on in another container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    EventTag,
    Org,
    OrgState,
    UpdateState,
    utcnow,
)
from portal.rules.references import Reference
from portal.services import events
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.events import Actor
from portal.services.orgs import member_sync, orgs
from portal.services.releases import polling

_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class FoundContainer:
    """A running container as it was found on a node, and how it is to be known; see `Bot` for the fields."""

    node_id: str
    container_id: str
    container_name: str
    name: str
    subdomain: str
    image: Reference
    digest: str | None
    port: int
    health_path: str
    address: str
    spec: dict[str, Any]
    unprotected: list[str]
    channel: Channel
    healthy: bool


def require_active_org(session: Session, slug: str) -> Org:
    """The organization that is to own a bot.

    Raises:
        NotFoundError: there is no such organization.
        ConflictError: it is about to be deleted.
    """
    org = orgs.find_by_slug(session, slug)
    if org is None:
        raise NotFoundError(f"There is no organization with the slug {slug}; create it first.")
    if org.state is not OrgState.ACTIVE:
        raise ConflictError(f"The organization {slug} is being deleted; restore it first.")
    return org


def require_unmanaged(session: Session, node_id: str, container_id: str) -> None:
    """Do nothing if no bot runs in that container.

    Raises:
        ConflictError: a bot does; the message names it.
    """
    bot = session.scalar(sa.select(Bot).where(Bot.node_id == node_id, Bot.container_id == container_id))
    if bot is not None:
        raise ConflictError(f"That container is managed already: it is the bot {bot.name} of {bot.org.slug}.")


def add_adopted(session: Session, org_slug: str, found: FoundContainer, *, actor: Actor = None) -> Bot:
    """Take a container that is already running into the fleet, as the bot of an organization.

    Its image is polled from now on, and what it points at decides whether the bot is behind.

    Args:
        session: a writing transaction.
        org_slug: the organization.
        found: the container.
        actor: the operator.

    Raises:
        NotFoundError: there is no such organization.
        InvalidError: the subdomain cannot be one.
        ConflictError: the container is managed already, or the subdomain is taken.
    """
    org = require_active_org(session, org_slug)
    require_unmanaged(session, found.node_id, found.container_id)
    _require_free(session, found.subdomain)
    bot = _new_bot(org, found)
    session.add(bot)
    session.flush()
    events.record(
        session,
        EventTag.BOT_CREATED,
        actor=actor,
        org_id=org.id,
        bot_id=bot.id,
        data={"adopted": True, "image": bot.image, "digest": bot.current_digest, "unprotected": bot.unprotected},
    )
    member_sync.set_desired_roles_for_bot(session, bot)
    if bot.release_channel is not Channel.PINNED:
        polling.schedule_first_poll(session, bot.image, utcnow())
    return bot


def attach_container(session: Session, bot_id: str, found: FoundContainer) -> Bot:
    """Let a bot go on in another container, which somebody made in the place of its own.

    Its data may be of another epoch than what anybody wrote down before.

    Args:
        session: a transaction of the bot's holder.
        bot_id: the bot.
        found: the container.

    Raises:
        ConflictError: its organization is being deleted, the container is managed already, or an update of the bot
            runs, or would still remove that container.
    """
    bot = session.get_one(Bot, bot_id)
    require_active_org(session, bot.org.slug)
    require_unmanaged(session, found.node_id, found.container_id)
    concerned = sa.or_(BotUpdate.state == UpdateState.RUNNING, BotUpdate.old_container_id == found.container_id)
    if session.scalar(
        sa.select(BotUpdate.id).where(BotUpdate.bot_id == bot.id, BotUpdate.is_unfinished(), concerned)
    ):
        raise ConflictError(f"An update of {bot.name} is not over yet; wait until it has ended and was cleaned up.")
    data = {"container_id": bot.container_id, "new_container_id": found.container_id, "digest": found.digest}
    for name, value in _as_found(found).items():
        setattr(bot, name, value)
    bot.applied_state, bot.restart_policy = DesiredState.RUNNING, None
    bot.epoch += 1
    events.record(session, EventTag.BOT_ATTACHED, org_id=bot.org_id, bot_id=bot.id, data=data)
    return bot


def suggest_subdomain(name: str) -> str:
    """The subdomain that a name suggests: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:63].strip("-")


def _require_free(session: Session, subdomain: str) -> None:
    if not _SUBDOMAIN.fullmatch(subdomain):
        raise InvalidError(
            f"{subdomain!r} cannot be a subdomain: use up to 63 lower-case letters, digits and dashes.", "subdomain"
        )
    if session.scalar(sa.select(Bot.id).where(Bot.subdomain == subdomain)):
        raise ConflictError(f"The subdomain {subdomain} is taken by another bot; choose one with --subdomain.")


def _new_bot(org: Org, found: FoundContainer) -> Bot:
    return Bot(
        org_id=org.id,
        node_id=found.node_id,
        name=found.name,
        subdomain=found.subdomain,
        image=str(found.image),
        release_channel=found.channel,
        port=found.port,
        health_path=found.health_path,
        desired_state=DesiredState.RUNNING,
        **_as_found(found),
    )


def _as_found(found: FoundContainer) -> dict[str, Any]:
    """What a bot's row says of the container it runs in."""
    moment = utcnow()
    return {
        "spec": found.spec,
        "unprotected": found.unprotected,
        "container_id": found.container_id,
        "container_name": found.container_name,
        "current_digest": found.digest,
        "state": BotState.RUNNING if found.healthy else BotState.UNHEALTHY,
        "state_detail": None,
        "state_since": moment,
        "checked_at": moment,
        "address": found.address,
    }

"""Adding adopted bots and attaching containers to bots. Used by `daemon.bots.adopt` and `daemon.bots.attach`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
    BotUpdate,
    Channel,
    DesiredState,
    EventTag,
    Org,
    OrgState,
    UpdateState,
)
from portal.rules.references import Reference
from portal.services import events
from portal.services.bots import state_changes, subdomains
from portal.services.errors import ConflictError, NotFoundError
from portal.services.events import Actor
from portal.services.orgs import member_sync, orgs
from portal.services.releases import polling


@dataclass(frozen=True, kw_only=True)
class FoundContainer:
    """A running container on a node and the values of the bot it becomes; see `Bot` for the fields."""

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
    """Return the active organization with this slug.

    Raises:
        NotFoundError: there is no such organization.
        ConflictError: the organization is being deleted.
    """
    org = orgs.find_by_slug(session, slug)
    if org is None:
        raise NotFoundError(f"There is no organization with the slug {slug}. Create it first.")
    if org.state is not OrgState.ACTIVE:
        raise ConflictError(f"The organization {slug} is being deleted. Restore it first.")
    return org


def require_unmanaged(session: Session, node_id: str, container_id: str) -> None:
    """Check that a container does not belong to a bot.

    Raises:
        ConflictError: the container belongs to a bot; the message names the bot.
    """
    bot = session.scalar(sa.select(Bot).where(Bot.node_id == node_id, Bot.container_id == container_id))
    if bot is not None:
        raise ConflictError(f"This container is already managed: it is the bot {bot.name} of {bot.org.slug}.")


def add_adopted(session: Session, org_slug: str, found: FoundContainer, *, now: datetime, actor: Actor = None) -> Bot:
    """Add a bot for a running container. Its image is polled from now on unless its channel is pinned.

    Args:
        session: a writing transaction.
        org_slug: the organization.
        found: the container.
        now: the current time.
        actor: the operator.

    Raises:
        NotFoundError: there is no such organization.
        InvalidError: the subdomain is not valid.
        ConflictError: the container is already managed, or the subdomain is taken.
    """
    org = require_active_org(session, org_slug)
    require_unmanaged(session, found.node_id, found.container_id)
    subdomains.require_free_subdomain(session, found.subdomain)
    bot = _build_bot(org, found, now)
    session.add(bot)
    session.flush()
    session.add(BotSync(bot_id=bot.id))
    events.record(
        session,
        EventTag.BOT_CREATED,
        actor=actor,
        org_id=org.id,
        bot_id=bot.id,
        data={"adopted": True, "image": bot.image, "digest": bot.current_digest, "unprotected": bot.unprotected},
    )
    member_sync.set_desired_roles_for_bot(session, bot, now)
    if bot.release_channel is not Channel.PINNED:
        polling.schedule_first_poll(session, bot.image, now)
    return bot


def attach_container(session: Session, bot_id: str, found: FoundContainer, now: datetime) -> Bot:
    """Replace the container of a bot and begin a new epoch, because the data of the container may differ.

    Args:
        session: a fenced transaction.
        bot_id: the bot.
        found: the container.
        now: the current time.

    Raises:
        ConflictError: the bot or its organization is not active, the container is already managed, or an update of
            the bot runs or would still remove that container.
    """
    bot = session.get_one(Bot, bot_id)
    require_active_org(session, bot.org.slug)
    if bot.phase is not BotPhase.ACTIVE:
        raise ConflictError(f"{bot.name} is {bot.phase}, so it cannot get another container.")
    require_unmanaged(session, found.node_id, found.container_id)
    conflicting = sa.or_(BotUpdate.state == UpdateState.RUNNING, BotUpdate.old_container_id == found.container_id)
    if session.scalar(
        sa.select(BotUpdate.id).where(BotUpdate.bot_id == bot.id, BotUpdate.is_unfinished(), conflicting)
    ):
        raise ConflictError(f"An update of {bot.name} is not finished. Wait until it has ended and was cleaned up.")
    values = _container_values(found, now)
    state_changes.set_state(session, bot, values["state"], None, now)
    data = {"container_id": bot.container_id, "new_container_id": found.container_id, "digest": found.digest}
    for name, value in values.items():
        setattr(bot, name, value)
    bot.applied_state, bot.restart_policy = DesiredState.RUNNING, None
    bot.epoch += 1
    events.record(session, EventTag.BOT_ATTACHED, org_id=bot.org_id, bot_id=bot.id, data=data)
    return bot


def _build_bot(org: Org, found: FoundContainer, now: datetime) -> Bot:
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
        **_container_values(found, now),
    )


def _container_values(found: FoundContainer, now: datetime) -> dict[str, Any]:
    """Return the column values of a bot that describe its container."""
    return {
        "spec": found.spec,
        "unprotected": found.unprotected,
        "container_id": found.container_id,
        "container_name": found.container_name,
        "current_digest": found.digest,
        "state": BotState.RUNNING if found.healthy else BotState.UNHEALTHY,
        "state_detail": None,
        "state_since": now,
        "checked_at": now,
        "address": found.address,
    }

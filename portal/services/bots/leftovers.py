"""What may be cleared from an engine because nothing needs it any more, as far as the database knows."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from portal.models import (
    Bot,
    BotUpdate,
    FleetSettings,
    PolledImage,
    ReadingPull,
    Release,
    Rollout,
    UpdateState,
)
from portal.rules.references import parse_reference

_OVER = (UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.SKIPPED)


def find_install_id(session: Session) -> str | None:
    """The id that marks what this installation made; None before anything was made."""
    return session.scalar(sa.select(FleetSettings.install_id))


def list_cleaned_updates(session: Session, update_ids: Collection[str]) -> set[str]:
    """Those of the updates that are finished and cleaned, and that no person needs to look at."""
    statement = sa.select(BotUpdate.id).where(
        BotUpdate.id.in_(update_ids), BotUpdate.state.in_(_OVER), BotUpdate.cleaned_at.is_not(None)
    )
    return set(session.scalars(statement))


def list_bot_containers(session: Session, node_id: str) -> set[str]:
    """Ids of the containers that bots of a node run in."""
    statement = sa.select(Bot.container_id).where(Bot.node_id == node_id, Bot.container_id.is_not(None))
    return {container_id for container_id in session.scalars(statement) if container_id}


def list_unneeded_images(session: Session, node_id: str, before: datetime) -> list[str]:
    """Images, as `repository@digest`, that we had a node pull and that nobody there needs any more.

    No bot of the node runs such a release or ran it before its last update, no tag points at it, no open rollout
    brings it, and every update to it ended, and its changelog was read there, before the given moment.
    """
    needed = _digests_in_use(session, node_id)
    return [
        parse_reference(release.repository).pinned(release.digest)
        for release in session.scalars(_pulled(node_id, before))
        if not release.digests & needed
    ]


def _pulled(node_id: str, before: datetime) -> sa.Select[Release]:
    # Where a new container was made the image had been pulled; of other updates nobody knows.
    for_updates = (
        sa.select(Rollout.release_id, BotUpdate.ended_at.label("at"))
        .join(BotUpdate, BotUpdate.rollout_id == Rollout.id)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(Bot.node_id == node_id, BotUpdate.new_container_id.is_not(None))
    )
    for_reading = sa.select(ReadingPull.release_id, ReadingPull.pulled_at).where(ReadingPull.node_id == node_id)
    pulled = sa.union_all(for_updates, for_reading).subquery()
    pulled_once = (
        sa.select(pulled.c.release_id).group_by(pulled.c.release_id).having(sa.func.max(pulled.c.at) < before)
    )
    # A digest that an operator pasted is followed by no bot.
    wanted = sa.select(PolledImage.release_id).where(PolledImage.release_id.is_not(None), ~PolledImage.asked_once)
    in_flight = sa.exists().where(BotUpdate.rollout_id == Rollout.id, BotUpdate.state == UpdateState.RUNNING)
    under_way = sa.select(Rollout.release_id).where(sa.or_(Rollout.state.in_(Rollout.OPEN), in_flight))
    return sa.select(Release).where(
        Release.id.in_(pulled_once), Release.id.not_in(wanted), Release.id.not_in(under_way)
    )


def _digests_in_use(session: Session, node_id: str) -> set[str | None]:
    """What bots of the node run, and what each ran before its last update."""
    runs = sa.select(Bot.current_digest).where(Bot.node_id == node_id)
    newer = aliased(BotUpdate)
    was_last = ~sa.exists().where(
        newer.bot_id == BotUpdate.bot_id, newer.state == UpdateState.UPDATED, newer.ended_at > BotUpdate.ended_at
    )
    ran = (
        sa.select(BotUpdate.previous_digest)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(Bot.node_id == node_id, BotUpdate.state == UpdateState.UPDATED, was_last)
    )
    return {*session.scalars(runs), *session.scalars(ran)}

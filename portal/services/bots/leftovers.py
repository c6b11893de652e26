"""Queries for containers and images that are no longer needed on a node. Used by the collector."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

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

_FINISHED = (UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.SKIPPED)


def find_install_id(session: Session) -> str | None:
    """Return the id that labels what this installation creates, or None before the first use."""
    return session.scalar(sa.select(FleetSettings.install_id))


def list_cleaned_updates(session: Session, update_ids: Collection[str]) -> set[str]:
    """Return those of the updates that are finished, cleaned, and do not need attention."""
    statement = sa.select(BotUpdate.id).where(
        BotUpdate.id.in_(update_ids), BotUpdate.state.in_(_FINISHED), BotUpdate.cleaned_at.is_not(None)
    )
    return set(session.scalars(statement))


def list_bot_containers(session: Session, node_id: str) -> set[str]:
    """Return the ids of the containers of the bots of a node."""
    statement = sa.select(Bot.container_id).where(Bot.node_id == node_id, Bot.container_id.is_not(None))
    return {container_id for container_id in session.scalars(statement) if container_id}


def list_unneeded_images(session: Session, node_id: str, before: datetime) -> list[str]:
    """Return the images that a node pulled for Flotilla and no longer needs, as `repository@digest`.

    No bot of the node runs such a release or ran it before its last update, no polled tag points at it, and no open
    rollout uses it.

    Args:
        session: a transaction.
        node_id: the node.
        before: every update to the release ended, and its changelog was read on the node, before this moment.
    """
    needed = _digests_in_use(session, node_id)
    return [
        parse_reference(release.repository).pinned(release.digest)
        for release in session.scalars(_pulled(node_id, before))
        if not release.digests & needed
    ]


def _pulled(node_id: str, before: datetime) -> sa.Select[Release]:
    # An update that created a new container has pulled the image. For other updates this is unknown.
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
    # No bot follows a digest that an operator pasted.
    targets = sa.select(PolledImage.release_id).where(PolledImage.release_id.is_not(None), ~PolledImage.asked_once)
    with_running_update = sa.select(BotUpdate.rollout_id).where(BotUpdate.is_running())
    in_progress = sa.or_(Rollout.state.in_(Rollout.OPEN), Rollout.id.in_(with_running_update))
    open_rollouts = sa.select(Rollout.release_id).where(in_progress)
    return sa.select(Release).where(
        Release.id.in_(pulled_once), Release.id.not_in(targets), Release.id.not_in(open_rollouts)
    )


def _digests_in_use(session: Session, node_id: str) -> set[str | None]:
    """Return the digests that bots of the node run, and that each bot ran before its last update."""
    # One row per bot, found by the index on bot, state and end. A join with all updates would read the history.
    before_last_update = (
        sa.select(BotUpdate.previous_digest)
        .where(BotUpdate.bot_id == Bot.id, BotUpdate.state == UpdateState.UPDATED)
        .order_by(BotUpdate.ended_at.desc())
        .limit(1)
        .correlate(Bot)
        .scalar_subquery()
    )
    rows = session.execute(sa.select(Bot.current_digest, before_last_update).where(Bot.node_id == node_id))
    return {digest for row in rows for digest in row}

"""What may be cleared from an engine because nothing needs it any more, as far as the database knows."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, FleetSettings, UpdateState

_OVER = (UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.FAILED, UpdateState.SKIPPED)


def install_id(session: Session) -> str | None:
    """The id that marks what this installation made; None before anything was made."""
    return session.scalar(sa.select(FleetSettings.install_id))


def updates_over(session: Session, update_ids: Collection[str]) -> set[str]:
    """Those of the updates that are finished and cleaned, and that no person needs to look at."""
    statement = sa.select(BotUpdate.id).where(
        BotUpdate.id.in_(update_ids), BotUpdate.state.in_(_OVER), BotUpdate.cleaned_at.is_not(None)
    )
    return set(session.scalars(statement))


def containers_of_bots(session: Session, node_id: str) -> set[str]:
    """Ids of the containers that bots of a node run in."""
    statement = sa.select(Bot.container_id).where(Bot.node_id == node_id, Bot.container_id.is_not(None))
    return {container_id for container_id in session.scalars(statement) if container_id}

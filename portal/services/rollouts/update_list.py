"""The bots of a rollout: paged, by state and by text. Used by the rollout's page, its report and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, defer, joinedload

from portal.models import Bot, BotUpdate, Org, Rollout, UpdateState
from portal.services.errors import NotFoundError
from portal.services.paging import Page, load_page

UPDATES_PER_PAGE = 25
ORDER = (
    UpdateState.NEEDS_ATTENTION,
    UpdateState.ROLLED_BACK,
    UpdateState.FAILED,
    UpdateState.RUNNING,
    UpdateState.PENDING,
    UpdateState.UPDATED,
    UpdateState.SKIPPED,
)
"""States in the order in which lists show them: what an operator has to know first."""

_RANK = sa.case({state: position for position, state in enumerate(ORDER)}, value=BotUpdate.state)


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """One row of the list."""

    update: BotUpdate
    """With its bot and organization, and without long columns."""
    has_log: bool
    """Whether the last log lines of the new container are stored."""


def list_updates(
    session: Session, rollout: Rollout, state: UpdateState | None = None, text: str = "", page: int = 1
) -> Page[UpdateRow]:
    """Return one page of the bots of a rollout.

    Args:
        session: the transaction.
        rollout: the rollout.
        state: only updates in this state.
        text: part of the name of the bot or of its organization; empty for all.
        page: number of the page, from 1, with `UPDATES_PER_PAGE` bots each.
    """
    return load_page(
        session, _select_ids(rollout, state, text), page, UPDATES_PER_PAGE, lambda ids: _load_rows(session, ids)
    )


def list_all_updates(session: Session, rollout: Rollout) -> Sequence[BotUpdate]:
    """Return all updates of a rollout by wave, without long columns."""
    query = _select_updates().where(BotUpdate.rollout_id == rollout.id)
    return session.scalars(query.order_by(BotUpdate.wave.is_(None), BotUpdate.wave, _RANK, BotUpdate.id)).all()


def list_bot_ids(session: Session, rollout: Rollout, limit: int) -> Sequence[str]:
    """Return the ids of the first bots of a rollout."""
    query = sa.select(BotUpdate.bot_id).where(BotUpdate.rollout_id == rollout.id).order_by(BotUpdate.bot_id)
    return session.scalars(query.limit(limit)).all()


def get_update(session: Session, rollout: Rollout, update_id: str) -> BotUpdate:
    """Return an update of a rollout with its log.

    Raises:
        NotFoundError: the rollout has no such update.
    """
    update = session.scalar(
        sa.select(BotUpdate)
        .where(BotUpdate.id == update_id, BotUpdate.rollout_id == rollout.id)
        .options(defer(BotUpdate.saved_container), joinedload(BotUpdate.bot).joinedload(Bot.org))
    )
    if update is None:
        raise NotFoundError("This update does not exist.")
    return update


def _select_ids(rollout: Rollout, state: UpdateState | None, text: str) -> sa.Select[str]:
    # An index contains all these columns, so that the database reads only the rows of the page.
    query = sa.select(BotUpdate.id).where(BotUpdate.rollout_id == rollout.id)
    if state is not None:
        query = query.where(BotUpdate.state == state)
    if text:
        found = sa.or_(*(column.icontains(text, autoescape=True) for column in (Bot.name, Org.name)))
        query = query.where(BotUpdate.bot_id.in_(sa.select(Bot.id).join(Bot.org).where(found)))
    return query.order_by(_RANK, BotUpdate.wave.is_(None), BotUpdate.wave, BotUpdate.id)


def _load_rows(session: Session, update_ids: Sequence[str]) -> list[UpdateRow]:
    query = _select_updates().add_columns(BotUpdate.log_tail.is_not(None)).where(BotUpdate.id.in_(update_ids))
    rows = [UpdateRow(update, has_log) for update, has_log in session.execute(query)]
    # The index has no names, so bots of the same state and wave are in alphabetical order on each page only.
    return sorted(rows, key=_place)


def _place(row: UpdateRow) -> tuple[int, bool, int, str]:
    update = row.update
    return ORDER.index(update.state), update.wave is None, update.wave or 0, update.bot.name


def _select_updates() -> sa.Select[BotUpdate]:
    return sa.select(BotUpdate).options(
        defer(BotUpdate.saved_container),
        defer(BotUpdate.log_tail),
        defer(BotUpdate.journal),
        joinedload(BotUpdate.bot).load_only(Bot.name, Bot.org_id).joinedload(Bot.org).load_only(Org.name, Org.slug),
    )

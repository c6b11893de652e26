"""The people of one bot with desired and observed roles. Used by operators' pages and the team page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import Bot, BotPhase, MemberSync, Org, User
from portal.services.errors import NotFoundError
from portal.services.orgs import sync_status
from portal.services.orgs.sync_status import MemberSyncStatus
from portal.services.paging import Page, load_page
from portal.services.syncs import sync_list
from portal.services.syncs.sync_list import BotSyncRow

PEOPLE_PER_PAGE = 50


@dataclass(frozen=True)
class PersonRow:
    """A person and the status of the person in the bot."""

    user: User
    status: MemberSyncStatus


def find_row(session: Session, bot: Bot, row_id: str) -> MemberSync:
    """Return the row of a person in a bot.

    Raises:
        NotFoundError: the bot has no such row.
    """
    row = session.scalar(sa.select(MemberSync).where(MemberSync.id == row_id, MemberSync.bot_id == bot.id))
    if row is None:
        raise NotFoundError("This bot has no such person.")
    return row


def find_row_of_org(session: Session, org: Org, row_id: str) -> MemberSync:
    """Return the row of a person in a bot of an organization.

    Raises:
        NotFoundError: the organization has no such row.
    """
    query = sa.select(MemberSync).join(Bot, Bot.id == MemberSync.bot_id)
    row = session.scalar(query.where(MemberSync.id == row_id, Bot.org_id == org.id))
    if row is None:
        raise NotFoundError("This organization has no such person.")
    return row


def get_bot(session: Session, bot_id: str) -> BotSyncRow:
    """Return the member sync of a bot.

    Raises:
        NotFoundError: there is no such bot, or it was removed.
    """
    query = sa.select(Bot).where(Bot.id == bot_id, Bot.phase != BotPhase.REMOVED)
    bot = session.scalar(query.options(joinedload(Bot.org), joinedload(Bot.node)))
    if bot is None:
        raise NotFoundError("There is no such bot, or it was removed.")
    return sync_list.load_rows(session, [bot])[0]


def list_people(session: Session, bot: Bot, page: int = 1) -> Page[PersonRow]:
    """Return one page of the people whose role was sent to a bot, or will be; pending changes first, then by name."""
    query = (
        sa.select(MemberSync)
        .join(Bot, Bot.id == MemberSync.bot_id)
        .join(User, User.id == MemberSync.user_id)
        .where(MemberSync.bot_id == bot.id)
        .order_by(sa.case((sync_status.is_settled(), 1), else_=0), sa.func.lower(User.name), MemberSync.id)
    )
    return load_page(session, query, page, PEOPLE_PER_PAGE, lambda found: _build_rows(session, found))


def _build_rows(session: Session, found: Sequence[MemberSync]) -> list[PersonRow]:
    users = session.scalars(sa.select(User).where(User.id.in_([row.user_id for row in found])))
    by_id = {user.id: user for user in users}
    statuses = sync_status.build_statuses(session, found)
    return [PersonRow(by_id[row.user_id], statuses[row.user_id][0]) for row in found]

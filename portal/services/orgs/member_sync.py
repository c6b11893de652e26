"""Desired roles of members in the bots of their organization, written in the transaction that changes a membership.

No job sends the desired roles to the bots yet. The job that will send them has to build each call from the row as it
is at that moment, so that a desired role that was replaced is never sent.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, Membership, MembershipState, MemberSync, Org, SyncRole, SyncState
from portal.rules.roles import ROLES


def set_desired_role(session: Session, org: Org, membership: Membership, now: datetime) -> None:
    """Write the role of a member as the desired role in every bot of the organization.

    The desired version of each row grows with every call, so that a later desired role is newer than all before it.
    """
    of_user = sa.select(MemberSync).join(Bot, Bot.id == MemberSync.bot_id).where(Bot.org_id == org.id)
    rows = session.scalars(of_user.where(MemberSync.user_id == membership.user_id))
    existing = {row.bot_id: row for row in rows}
    for bot_id in session.scalars(sa.select(Bot.id).where(Bot.org_id == org.id, Bot.phase != BotPhase.REMOVED)):
        row = existing.get(bot_id) or _add_row(session, bot_id, membership)
        _request_sync(row, _get_sync_role(org, membership), now)
    session.flush()


def set_desired_roles_for_bot(session: Session, bot: Bot, now: datetime) -> None:
    """Write the desired roles of all members of the organization for a new bot."""
    org = bot.org
    active = sa.select(Membership).where(Membership.org_id == org.id, Membership.state == MembershipState.ACTIVE)
    for membership in session.scalars(active):
        _request_sync(_add_row(session, bot.id, membership), _get_sync_role(org, membership), now)
    session.flush()


def _add_row(session: Session, bot_id: str, membership: Membership) -> MemberSync:
    row = MemberSync(bot_id=bot_id, user_id=membership.user_id, desired_version=0)
    session.add(row)
    return row


def _request_sync(row: MemberSync, role: SyncRole, now: datetime) -> None:
    row.desired_version += 1
    row.desired_role = role
    row.state = SyncState.PENDING
    row.attempts = 0
    row.next_attempt_at = row.last_error = None
    row.changed_at = now


def _get_sync_role(org: Org, membership: Membership) -> SyncRole:
    if membership.state is MembershipState.REMOVED:
        return SyncRole.NONE
    return ROLES[org.role_of(membership)].sync_role

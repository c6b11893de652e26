"""What bots should know of their organization's people, written in the transaction that changes a membership.

Only the wish is written here. A worker carries it to the bot later and builds its call from the row as it is then,
so a wish that was overtaken is never sent.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Membership, MembershipState, MemberSync, Org, SyncRole, SyncState, User, utcnow


def set_desired_role(session: Session, org: Org, user: User, role: SyncRole) -> None:
    """Have every bot of the organization know the user in this role; `none` has the user removed there.

    The desired version of each row grows with every call, so that a later wish is newer than all before it.
    """
    known = {row.bot_id: row for row in session.scalars(_of(org).where(MemberSync.user_id == user.id))}
    for bot_id in session.scalars(sa.select(Bot.id).where(Bot.org_id == org.id)):
        _write(session, known.get(bot_id), bot_id, user.id, role)
    session.flush()


def set_desired_roles_for_bot(session: Session, bot: Bot) -> None:
    """Have a new bot know everybody who belongs to its organization."""
    org = bot.org
    active = sa.select(Membership).where(Membership.org_id == org.id, Membership.state == MembershipState.ACTIVE)
    for membership in session.scalars(active):
        _write(session, None, bot.id, membership.user_id, synced_role(org, membership))
    session.flush()


def synced_role(org: Org, membership: Membership) -> SyncRole:
    """The role bots should know for a membership: the owner is told by the organization's row alone."""
    if membership.state is MembershipState.REMOVED:
        return SyncRole.NONE
    return SyncRole.OWNER if membership.user_id == org.owner_id else SyncRole(membership.role)


def _of(org: Org) -> sa.Select[MemberSync]:
    return sa.select(MemberSync).join(Bot, Bot.id == MemberSync.bot_id).where(Bot.org_id == org.id)


def _write(session: Session, row: MemberSync | None, bot_id: str, user_id: str, role: SyncRole) -> None:
    if row is None:
        row = MemberSync(bot_id=bot_id, user_id=user_id, desired_version=0)
        session.add(row)
    row.desired_version += 1
    row.desired_role = role
    row.state = SyncState.PENDING
    row.attempts = 0
    row.next_attempt_at = row.last_error = None
    row.changed_at = utcnow()

"""Desired roles of members in the bots of their organization, written in the transaction that changes a membership.

So nothing is lost between the change and the calls. `daemon.provision` sends the desired roles to the bots.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import Bot, BotPhase, Membership, MembershipState, MemberSync, Org, SyncRole, SyncState
from portal.rules.roles import ROLES

_NODES = "nodes with members to sync"


def set_desired_role(session: Session, org: Org, membership: Membership, now: datetime) -> None:
    """Write the role of a member as the desired role in every bot of the organization.

    The desired version of each row grows with every call, so that a later desired role is newer than all before it.
    """
    role = _get_sync_role(org, membership)
    of_user = sa.select(MemberSync).join(Bot, Bot.id == MemberSync.bot_id).where(Bot.org_id == org.id)
    # The worker that sends a row marks it as synced. The lock keeps it from doing so between this read and the write,
    # which would hide the new desired role.
    locked = of_user.where(MemberSync.user_id == membership.user_id).order_by(MemberSync.bot_id, MemberSync.id)
    rows = session.scalars(locked.with_for_update(of=MemberSync).execution_options(populate_existing=True))
    existing = {row.bot_id: row for row in rows}
    bots = sa.select(Bot.id, Bot.node_id).where(Bot.org_id == org.id, Bot.phase != BotPhase.REMOVED)
    for bot_id, node_id in session.execute(bots).all():
        _request_sync(existing.get(bot_id) or _add_row(session, bot_id, membership), role, now)
        request_job(session, node_id)
    session.flush()


def lock_rows(session: Session, *user_ids: str) -> None:
    """Lock the rows of some users in all bots until the transaction ends.

    Call this before several calls of `set_desired_role`. Every transaction locks rows by bot and then by id, so that
    none waits in a circle.
    """
    of_users = sa.select(MemberSync.id).where(MemberSync.user_id.in_(user_ids))
    session.execute(of_users.order_by(MemberSync.bot_id, MemberSync.id).with_for_update())


def set_desired_roles_for_bot(session: Session, bot: Bot, now: datetime) -> None:
    """Write the desired roles of all members of the organization for a new bot."""
    org = bot.org
    active = sa.select(Membership).where(Membership.org_id == org.id, Membership.state == MembershipState.ACTIVE)
    for membership in session.scalars(active.options(joinedload(Membership.user))):
        role = _get_sync_role(org, membership)
        _request_sync(_add_row(session, bot.id, membership), role, now)
    request_job(session, bot.node_id)
    session.flush()


def request_job(session: Session, node_id: str) -> None:
    """Note that the bots of a node have to be synced after the commit. Without the note, the scheduler does it."""
    session.info.setdefault(_NODES, set()).add(node_id)


def take_requested_jobs(session: Session) -> list[str]:
    """Return and forget the ids of the nodes to sync. Call it after the commit, to enqueue jobs."""
    nodes: set[str] = session.info.pop(_NODES, set())
    return sorted(nodes)


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
    # A disabled account has no access anywhere. Its membership stays for the time when it is enabled again.
    if membership.state is MembershipState.REMOVED or membership.user.disabled_at is not None:
        return SyncRole.NONE
    return ROLES[org.role_of(membership)].sync_role

"""Removed members: whom a bot may still know, and whose access has ended everywhere. Used by the team page.

The gateway refuses a removed member at once. A bot that is down removes the member when a call reaches it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotSync,
    Membership,
    MembershipState,
    MemberSync,
    Org,
    Provisioning,
    SyncRole,
    User,
)
from portal.services.orgs import sync_status
from portal.services.orgs.sync_status import MemberSyncStatus

ENDED_WITHIN = timedelta(days=7)
"""How long the list shows a removed member after all bots have confirmed the removal."""
_MAX_ROWS = 100


@dataclass(frozen=True)
class FormerMember:
    """A removed member and the status in each bot that was asked to remove the member."""

    user: User
    syncs: Sequence[MemberSyncStatus]

    @property
    def removed_at(self) -> datetime:
        """When the bots were asked last."""
        return max(sync.row.changed_at for sync in self.syncs)

    @property
    def is_ending(self) -> bool:
        """Whether a bot may still know the member."""
        return not all(sync.is_settled for sync in self.syncs)


@dataclass(frozen=True)
class FormerMembers:
    """The removed members of an organization, the latest removal first."""

    ending: Sequence[FormerMember]
    """Those whom a bot may still know."""
    ended: Sequence[FormerMember]
    """Those whom no bot knows any longer, for `ENDED_WITHIN` after the removal."""
    has_more: bool
    """Whether the lists are cut off."""


def list_former_members(session: Session, org: Org, now: datetime) -> FormerMembers:
    """List the removed members whom a bot may still know, and those whose access has ended lately."""
    rows = session.scalars(_select_removals(org, now)).all()
    statuses = sync_status.build_statuses(session, rows[:_MAX_ROWS])
    users = {user.id: user for user in session.scalars(sa.select(User).where(User.id.in_(statuses.keys())))}
    found = [FormerMember(users[user_id], syncs) for user_id, syncs in statuses.items()]
    found.sort(key=lambda member: member.removed_at, reverse=True)
    return FormerMembers(
        ending=[member for member in found if member.is_ending],
        ended=[member for member in found if not member.is_ending],
        has_more=len(rows) > _MAX_ROWS,
    )


def _select_removals(org: Org, now: datetime) -> sa.Select[MemberSync]:
    """Select the removals that bots have not confirmed, then those that they have confirmed lately."""
    return (
        sa.select(MemberSync)
        .join(Bot, Bot.id == MemberSync.bot_id)
        .join(BotSync, BotSync.bot_id == Bot.id)
        .join(Membership, (Membership.org_id == Bot.org_id) & (Membership.user_id == MemberSync.user_id))
        .where(
            Bot.org_id == org.id,
            Bot.phase != BotPhase.REMOVED,
            BotSync.provisioning != Provisioning.OFF,
            # The bots also remove people whose account is disabled; these stay in the list of members.
            Membership.state == MembershipState.REMOVED,
            MemberSync.desired_role == SyncRole.NONE,
            ~sync_status.is_settled() | (MemberSync.changed_at > now - ENDED_WITHIN),
        )
        .order_by(sa.case((sync_status.is_settled(), 1), else_=0), MemberSync.changed_at.desc(), MemberSync.id)
        .limit(_MAX_ROWS + 1)
        .execution_options(populate_existing=True)
    )

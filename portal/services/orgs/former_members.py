"""Removed members: whom a bot may still know, and whose access has ended everywhere. Used by the team page.

The gateway refuses a removed member at once. A bot that is down removes the member when a call reaches it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotSync,
    Event,
    EventTag,
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
"""How long the list shows a removed member whom no bot knows, after the bots were asked last to remove the member."""
_MAX_ROWS = 100


@dataclass(frozen=True)
class FormerMember:
    """A removed member and the status in each bot that was asked to remove the member."""

    user: User
    syncs: Sequence[MemberSyncStatus]
    removed_at: datetime
    """When the membership ended; when the bots were asked last, if no event says it.

    Bots may have been asked again after the end, because they listed the person again.
    """

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
    """Those whom no bot knows any longer, for `ENDED_WITHIN` after the bots were asked last."""
    has_more: bool
    """Whether the lists are cut off."""


def list_former_members(session: Session, org: Org, now: datetime) -> FormerMembers:
    """List the removed members whom a bot may still know, and those whose access has ended lately."""
    rows = session.scalars(_select_removals(org, now)).all()
    statuses = sync_status.build_statuses(session, rows[:_MAX_ROWS])
    users = {user.id: user for user in session.scalars(sa.select(User).where(User.id.in_(statuses.keys())))}
    ends = _load_ends(session, org, statuses.keys())
    found = [
        FormerMember(users[user_id], syncs, ends.get(user_id) or max(sync.row.changed_at for sync in syncs))
        for user_id, syncs in statuses.items()
    ]
    found.sort(key=lambda member: member.removed_at, reverse=True)
    return FormerMembers(
        ending=[member for member in found if member.is_ending],
        ended=[member for member in found if not member.is_ending],
        has_more=len(rows) > _MAX_ROWS,
    )


def _load_ends(session: Session, org: Org, user_ids: Iterable[str]) -> dict[str, datetime]:
    """Load from the events, which are never deleted, when the last membership of each user ended, by user id."""
    is_end = Event.tag.in_((EventTag.MEMBER_REMOVED, EventTag.MEMBER_LEFT))
    query = sa.select(Event.user_id, sa.func.max(Event.at)).where(Event.user_id.in_(list(user_ids)))
    ended = session.execute(query.where(Event.org_id == org.id, is_end).group_by(Event.user_id))
    return {str(user_id): moment for user_id, moment in ended}


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

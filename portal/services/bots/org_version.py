"""Version of the list of an organization's bots, from one statement. Used by its home page, which browsers poll.

Most polls find nothing new. The version tells so before the rows are loaded and the list is rendered.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotRequest,
    BotUpdate,
    Node,
    Org,
    PolledImage,
    Release,
    TenantUpdateConfig,
    UpdateNotice,
    User,
)
from portal.rules.roles import Role
from portal.services.bots.bot_list import select_latest_update

_REFRESH_SECONDS = 60
"""After this time the version changes in any case, because the list contains relative times."""


def _select_facts() -> sa.Select[*tuple[Any, ...]]:
    """Select what the list shows of each bot, in rows that also contain the facts of the organization."""
    reminders = sa.select(sa.func.max(UpdateNotice.snoozed_until)).where(
        UpdateNotice.user_id == sa.bindparam("user_id")
    )
    return (
        sa.select(
            Org.state,
            sa.exists().where(BotRequest.org_id == Org.id),
            reminders.scalar_subquery(),
            Bot.id,
            Bot.name,
            Bot.phase,
            Bot.state,
            Bot.state_detail,
            Bot.desired_state,
            Bot.applied_state,
            Bot.restart_requested_at,
            Bot.restart_requested_at <= sa.bindparam("now"),
            Bot.lease_owner.is_not(None),
            Bot.held_until,
            Bot.skipped_release_id,
            Node.last_error.is_not(None),
            Bot.release_channel,
            Bot.current_digest,
            Bot.subdomain,
            Bot.needs_attention.is_not(None),
            Bot.creation_attempts,
            Bot.creation_due_at,
            Bot.creation_error.is_not(None),
            Bot.remove_after,
            Bot.keep_data,
            PolledImage.release_id,
            Release.quarantined_at,
            Release.changelog_read_at,
            BotUpdate.id,
            BotUpdate.state,
            BotUpdate.step,
            BotUpdate.verdict,
            BotUpdate.ended_at,
            TenantUpdateConfig.mode,
            TenantUpdateConfig.preferred_hour_utc,
        )
        .select_from(Org)
        .outerjoin(Bot, (Bot.org_id == Org.id) & (Bot.phase != BotPhase.REMOVED))
        .outerjoin(Node, Node.id == Bot.node_id)
        .outerjoin(PolledImage, PolledImage.image == Bot.image)
        .outerjoin(Release, Release.id == PolledImage.release_id)
        .outerjoin(BotUpdate, BotUpdate.id == select_latest_update())
        .outerjoin(TenantUpdateConfig, TenantUpdateConfig.org_id == Org.id)
        .where(Org.id == sa.bindparam("org_id"))
        .order_by(Bot.id)
    )


_FACTS = _select_facts()


def read_version(session: Session, org: Org, user: User, roles: Collection[Role], now: datetime) -> str:
    """Return a text that differs as soon as the list of the organization's bots may look different to a user.

    Args:
        session: the transaction.
        org: the organization.
        user: who sees the list.
        roles: of the user in the organization.
        now: the current time.
    """
    rows = session.connection().execute(_FACTS, {"org_id": org.id, "user_id": user.id, "now": now}).all()
    # The offset spreads the work: the lists of all organizations are not rendered in the same second.
    period = (int(now.timestamp()) + zlib.crc32(org.id.encode())) // _REFRESH_SECONDS
    return hashlib.sha256(repr((period, sorted(roles), rows)).encode()).hexdigest()[:16]

"""Tables of the member sync: desired and observed roles of users in bots, and the provisioning of each bot."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.outside_text import OutsideText
from portal.rules.roles import SyncRole


class SyncState(StrEnum):
    """Whether the bot knows the desired role. A `blocked` row needs an operator."""

    PENDING = "pending"
    SYNCED = "synced"
    BLOCKED = "blocked"


class Provisioning(StrEnum):
    """How a bot learns about its organization."""

    OFF = "off"
    """The bot does not serve the provision protocol, or no operator has set it up. Nothing is sent."""
    LINKED = "linked"
    """An operator named an existing company. Members are sent; the company is not provisioned."""
    MANAGED = "managed"
    """Flotilla provisions the company and sends its members."""


class BotSync(Base):
    """Provisioning, budget and reconciliation of one bot. Every bot has one row."""

    __tablename__ = "bot_syncs"

    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"), primary_key=True)
    provisioning: Mapped[Provisioning] = mapped_column(choice(Provisioning), default=Provisioning.OFF)
    state: Mapped[SyncState] = mapped_column(choice(SyncState), default=SyncState.PENDING, index=True)
    """State of provisioning and budget."""
    provisioned_epoch: Mapped[int | None]
    """Epoch of the last provisioning. In a later epoch the bot's data may be older than the company."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)
    budget_cents: Mapped[int | None]
    per_agent_budget_cents: Mapped[int | None]
    observed_budget_cents: Mapped[int | None]
    observed_per_agent_budget_cents: Mapped[int | None]
    observed_budget_epoch: Mapped[int | None]
    reconciled_at: Mapped[datetime | None]
    reconciled_epoch: Mapped[int | None]
    next_reconcile_at: Mapped[datetime | None] = mapped_column(index=True)
    """When the members are compared again. None: as soon as possible."""
    lists_members: Mapped[bool | None]
    """Whether the bot can list its members. None: not asked yet."""
    refused_removals: Mapped[int | None]
    """Number of unknown members that a reconciliation did not remove, because they are too many. None: no refusal."""
    drift_count: Mapped[int] = mapped_column(default=0)
    """Differences between desired and listed members that reconciliations have found, in total."""
    allowed_removals: Mapped[int | None]
    """How many unknown members an operator has allowed the next reconciliation to remove, after a refusal."""
    resend_before: Mapped[datetime | None]
    """Roles that were observed before this moment are sent again, because the bot does not list its members."""
    unanswered_calls: Mapped[int] = mapped_column(default=0)
    """Calls in a row without an answer. A separate job calls such a bot, so that it does not delay the others."""
    next_call_at: Mapped[datetime | None]
    """When a bot without an answer is called again."""
    claimed_until: Mapped[datetime | None]
    """Until when one worker may call the bot, by the clock of the database. See `services.syncs.claims`."""
    claim_fence: Mapped[int] = mapped_column(default=0)


class MemberSync(Base):
    """Desired and observed role of one user in one bot. Written in the transaction that changes the membership."""

    __tablename__ = "member_sync"
    __table_args__ = (sa.UniqueConstraint("bot_id", "user_id"),)

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id"), index=True)
    desired_version: Mapped[int] = mapped_column(default=1)
    desired_role: Mapped[SyncRole] = mapped_column(choice(SyncRole))
    observed_version: Mapped[int | None]
    observed_role: Mapped[SyncRole | None] = mapped_column(choice(SyncRole))
    observed_epoch: Mapped[int | None]
    observed_at: Mapped[datetime | None]
    state: Mapped[SyncState] = mapped_column(choice(SyncState), default=SyncState.PENDING, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)

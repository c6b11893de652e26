"""Table of the member sync: the desired and the last observed role of each user in each bot."""

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
    state: Mapped[SyncState] = mapped_column(choice(SyncState), default=SyncState.PENDING, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)

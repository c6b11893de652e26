"""Changes of the observed states of bots, for their health history. Used by services and jobs."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice
from portal.models.bot import BotState


class BotStateChange(Base):
    """One change of the observed state of a bot. Nothing is stored while the state stays the same."""

    __tablename__ = "bot_state_changes"
    __table_args__ = (sa.Index(None, "bot_id", "at"),)

    id: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id"))
    at: Mapped[datetime] = mapped_column(index=True)
    old: Mapped[BotState] = mapped_column(choice(BotState))
    new: Mapped[BotState] = mapped_column(choice(BotState))

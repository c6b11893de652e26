"""The append-only log of everything that happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, utcnow


class Event(Base):
    """One thing that happened. Rows are never changed or deleted: a trigger in the database refuses it.

    Ids point at rows without foreign keys, so that the log outlives what it tells of.
    """

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    tag: Mapped[str] = mapped_column(sa.String(64), index=True)
    actor_id: Mapped[str | None] = mapped_column(sa.String(16), index=True)
    org_id: Mapped[str | None] = mapped_column(sa.String(16), index=True)
    bot_id: Mapped[str | None] = mapped_column(sa.String(16), index=True)
    rollout_id: Mapped[str | None] = mapped_column(sa.String(16), index=True)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    request_id: Mapped[str | None] = mapped_column(sa.String(64))
    address: Mapped[str | None] = mapped_column(sa.String(45))
    """Network address of the browser that asked for it."""

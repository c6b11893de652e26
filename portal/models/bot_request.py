"""Requests for the first bot of new organizations. Used by the creation of organizations and of bots."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, utcnow
from portal.models.org import Org
from portal.models.outside_text import OutsideText


class BotRequest(Base):
    """An organization that waits for its first bot. The row is deleted when the organization gets a bot."""

    __tablename__ = "bot_requests"

    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(default=utcnow)
    due_at: Mapped[datetime] = mapped_column(default=utcnow)
    """When the scheduler tries again to find a node."""
    error: Mapped[str | None] = mapped_column(OutsideText(2000))
    """Why no bot could be created at the last attempt, for operators."""

    org: Mapped[Org] = relationship()

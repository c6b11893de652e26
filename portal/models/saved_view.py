"""Saved views: named filters of the fleet page, shared by all operators. Used by the fleet page."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, new_id, utcnow
from portal.models.outside_text import OutsideLine


class SavedView(Base):
    """The filters and the order of the fleet page under a name."""

    __tablename__ = "saved_views"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(OutsideLine(60), unique=True)
    query: Mapped[str] = mapped_column(sa.String(1000))
    """The query string of the page, without the page number."""
    created_by: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

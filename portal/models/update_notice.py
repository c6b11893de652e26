"""Snoozed update offers. Used by the offer of an update on the pages of a bot."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base


class UpdateNotice(Base):
    """The answer "Later": the update of a bot to a release is not offered to this user until `snoozed_until`."""

    __tablename__ = "update_notices"

    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"), primary_key=True)
    release_id: Mapped[str] = mapped_column(sa.ForeignKey("releases.id", ondelete="CASCADE"), primary_key=True)
    snoozed_until: Mapped[datetime]

"""What a person answered to the offer of an update."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base


class UpdateNotice(Base):
    """The answer "Later": this person does not want to be asked about this release for this bot until then."""

    __tablename__ = "update_notices"

    user_id: Mapped[str] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"), primary_key=True)
    release_id: Mapped[str] = mapped_column(sa.ForeignKey("releases.id", ondelete="CASCADE"), primary_key=True)
    snoozed_until: Mapped[datetime]

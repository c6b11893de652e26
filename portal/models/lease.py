"""Named leases, by the clock of the database. Used by the scheduler and the node probe."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base


class Lease(Base):
    """A right that one process holds until a moment. The fence grows with every new holder."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    owner: Mapped[str | None] = mapped_column(sa.String(64))
    until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(default=0)

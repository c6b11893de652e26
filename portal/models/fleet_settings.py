"""Settings of the whole fleet, and update preferences of organizations. Used by rollouts and settings pages."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.rules.hidden_secrets import SECRET_VARIABLES
from portal.rules.strategies import StrategyName


class FleetMode(StrEnum):
    """Mode of the fleet. `PAUSED`: no update starts. `MANUAL`: every organization counts as manual."""

    AUTO = "auto"
    MANUAL = "manual"
    PAUSED = "paused"


class TenantMode(StrEnum):
    """Update mode of an organization. `AUTO`: its bots are updated automatically, at its update hour."""

    AUTO = "auto"
    MANUAL = "manual"


class FleetSettings(Base):
    """Settings that operators change at run time. The table has one row, which a migration creates."""

    __tablename__ = "fleet_settings"

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    install_id: Mapped[str] = mapped_column(sa.String(16), default=new_id)
    """Value of the label `flotilla.install` on everything that this installation creates on an engine. The collector
    removes nothing without this label."""
    mode: Mapped[FleetMode] = mapped_column(choice(FleetMode), default=FleetMode.AUTO)
    strategy: Mapped[StrategyName] = mapped_column(choice(StrategyName), default=StrategyName.ROLLING_WAVE)
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Parameters of `strategy`; missing ones have their defaults."""
    max_parallel: Mapped[int] = mapped_column(default=2)
    """Updates that may run in parallel on one node."""
    tenant_mode: Mapped[TenantMode] = mapped_column(choice(TenantMode), default=TenantMode.MANUAL)
    tenant_hour_utc: Mapped[int] = mapped_column(default=3)
    members_read_logs: Mapped[bool] = mapped_column(default=True)
    """Whether members of an organization read the logs of its bots, like the owner and admins."""
    secret_variables: Mapped[list[str]] = mapped_column(default=lambda: list(SECRET_VARIABLES))
    """Patterns of the names of environment variables whose values are hidden in logs."""
    version: Mapped[int] = mapped_column(default=1)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)


class TenantUpdateConfig(Base):
    """Update preferences of an organization. Without a row the defaults of the fleet apply."""

    __tablename__ = "tenant_update_configs"
    __table_args__ = (
        sa.CheckConstraint("preferred_hour_utc BETWEEN 0 AND 23", name="hour"),
        sa.Index(None, "mode", "org_id"),
        sa.Index(None, "preferred_hour_utc", "org_id"),
    )

    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    mode: Mapped[TenantMode] = mapped_column(choice(TenantMode), default=TenantMode.MANUAL)
    preferred_hour_utc: Mapped[int] = mapped_column(default=3)
    overridden_by_operator: Mapped[bool] = mapped_column(default=False)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_by: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    version: Mapped[int] = mapped_column(default=1)

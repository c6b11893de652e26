"""How the fleet as a whole and each organization wants its updates."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.rollout import StrategyName


class FleetMode(StrEnum):
    """`paused`: nothing starts. `manual`: every organization is treated as manual."""

    AUTO = "auto"
    MANUAL = "manual"
    PAUSED = "paused"


class TenantMode(StrEnum):
    """Whether an organization's bots are updated by themselves, inside its hour."""

    AUTO = "auto"
    MANUAL = "manual"


class FleetSettings(Base):
    """The one row of settings that operators change while everything runs."""

    __tablename__ = "fleet_settings"

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    install_id: Mapped[str] = mapped_column(sa.String(16), default=new_id)
    """Marks what this installation made on an engine (label `flotilla.install`); nothing else is ever collected."""
    mode: Mapped[FleetMode] = mapped_column(choice(FleetMode), default=FleetMode.AUTO)
    strategy: Mapped[StrategyName] = mapped_column(choice(StrategyName), default=StrategyName.ROLLING_WAVE)
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Overrides of the strategy's own defaults."""
    max_parallel: Mapped[int] = mapped_column(default=2)
    """Updates side by side on one node."""
    tenant_mode: Mapped[TenantMode] = mapped_column(choice(TenantMode), default=TenantMode.MANUAL)
    tenant_hour_utc: Mapped[int] = mapped_column(default=3)
    bot_template: Mapped[dict[str, Any]] = mapped_column(default=dict)
    version: Mapped[int] = mapped_column(default=1)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)


class TenantUpdateConfig(Base):
    """An organization's update preferences; no row means the fleet's defaults."""

    __tablename__ = "tenant_update_configs"
    __table_args__ = (sa.CheckConstraint("preferred_hour_utc BETWEEN 0 AND 23", name="hour"),)

    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    mode: Mapped[TenantMode] = mapped_column(choice(TenantMode), default=TenantMode.MANUAL)
    preferred_hour_utc: Mapped[int] = mapped_column(default=3)
    overridden_by_operator: Mapped[bool] = mapped_column(default=False)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_by: Mapped[str | None] = mapped_column(sa.ForeignKey("users.id"))
    version: Mapped[int] = mapped_column(default=1)

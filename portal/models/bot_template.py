"""The bot template: the settings of new bots. Used by the creation of bots and by settings pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, utcnow
from portal.models.bot import Channel, HealthExpectation
from portal.models.encrypted import EncryptedJSON
from portal.models.outside_text import OutsideJSON


class BotTemplate(Base):
    """Settings of new bots. The table has one row, which a migration creates. Existing bots keep their settings."""

    __tablename__ = "bot_templates"

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    version: Mapped[int] = mapped_column(default=1)
    image: Mapped[str | None] = mapped_column(sa.String(300))
    """Reference with tag. None: the template is not set up, and no bot can be created."""
    release_channel: Mapped[Channel] = mapped_column(choice(Channel), default=Channel.STABLE)
    environment: Mapped[Any] = mapped_column(EncryptedJSON, nullable=True)
    """Environment variables as a dictionary. Encrypted, because they may contain secrets."""
    hosted_environment: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Environment variables that switch the image to hosted mode."""
    port: Mapped[int] = mapped_column(default=3100)
    health_path: Mapped[str] = mapped_column(sa.String(200), default="/health")
    health_expectation: Mapped[HealthExpectation] = mapped_column(
        choice(HealthExpectation), default=HealthExpectation.JSON_STATUS_OK
    )
    volumes: Mapped[list[str]] = mapped_column(default=lambda: ["/data", "/paperclip"])
    """Paths in the container. Each bot has one volume per path."""
    memory_mb: Mapped[int | None]
    cpu_millis: Mapped[int | None]
    """CPU limit in thousandths of a CPU."""
    pids_limit: Mapped[int | None]
    capabilities: Mapped[list[str]] = mapped_column(default=list)
    """Linux capabilities that the container keeps. All others are dropped."""
    header_prefix: Mapped[str] = mapped_column(sa.String(64), default="x-platform-user")
    secret_variable: Mapped[str] = mapped_column(sa.String(100), default="PROVISION_SECRET")
    gateway_url: Mapped[str | None] = mapped_column(sa.String(300))
    """Sent as `gatewayUrl` of provisioning. It is the model gateway of the bot's agents, not Flotilla's gateway."""
    api_key: Mapped[Any] = mapped_column(EncryptedJSON, nullable=True)
    """Sent as `apiKey` of provisioning."""
    budget_cents: Mapped[int] = mapped_column(default=0)
    per_agent_budget_cents: Mapped[int | None]
    agents: Mapped[Any] = mapped_column(OutsideJSON, default=list)
    """Sent as `agents` of provisioning: a list of JSON objects."""
    extra: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Sent as `extra` of provisioning."""
    create_for_new_orgs: Mapped[bool] = mapped_column(default=False)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)

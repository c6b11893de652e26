"""Bots: the container of one organization, with its named volumes, on one node."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.encrypted import EncryptedJSON
from portal.models.node import Node
from portal.models.org import Org


class Channel(StrEnum):
    """How often an image is polled (5, 15, 30 minutes, never), and who goes first as canary."""

    CANARY = "canary"
    STAGING = "staging"
    STABLE = "stable"
    PINNED = "pinned"


class DesiredState(StrEnum):
    """What people want of the bot."""

    RUNNING = "running"
    STOPPED = "stopped"


class BotState(StrEnum):
    """What was last seen of the bot."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"
    MISSING = "missing"


class Bot(Base):
    """The container of one organization. Its lease and fence serialize everything that touches the container."""

    __tablename__ = "bots"
    __table_args__ = (sa.UniqueConstraint("node_id", "container_id"),)

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id"), index=True)
    node_id: Mapped[str] = mapped_column(sa.ForeignKey("nodes.id"), index=True)
    name: Mapped[str] = mapped_column(sa.String(100))
    subdomain: Mapped[str] = mapped_column(sa.String(63), unique=True)
    image: Mapped[str] = mapped_column(sa.String(300), index=True)
    """Normalized reference with its tag, as `str(Reference)` writes it."""
    release_channel: Mapped[Channel] = mapped_column(choice(Channel), default=Channel.STABLE)
    port: Mapped[int] = mapped_column(default=3100)
    health_path: Mapped[str] = mapped_column(sa.String(200), default="/health")
    spec: Mapped[Any] = mapped_column(EncryptedJSON, default=dict)
    """Description of the container as it was adopted or created; it holds the environment, hence encrypted."""
    unprotected: Mapped[list[str]] = mapped_column(default=list)
    """Paths in the container that hold data no snapshot protects: writable binds. Shown, and never a canary."""
    container_id: Mapped[str | None] = mapped_column(sa.String(64))
    container_name: Mapped[str | None] = mapped_column(sa.String(255))
    current_digest: Mapped[str | None] = mapped_column(sa.String(71))
    desired_state: Mapped[DesiredState] = mapped_column(choice(DesiredState), default=DesiredState.RUNNING)
    applied_state: Mapped[DesiredState] = mapped_column(choice(DesiredState), default=DesiredState.RUNNING)
    """The desired state that a worker brought about last; while they differ, there is something to do."""
    desired_when_restored: Mapped[DesiredState | None] = mapped_column(choice(DesiredState))
    """While the organization is being deleted: what is wanted again should that be taken back."""
    restart_policy: Mapped[dict[str, Any] | None]
    """While stopped by Flotilla: what the engine did about the container's end before, to be set again."""
    volumes_to_remove: Mapped[list[str] | None]
    """While the bot is removed for good: volumes of its container, which can be asked no more once it is gone."""
    state: Mapped[BotState] = mapped_column(choice(BotState), default=BotState.UNKNOWN)
    state_detail: Mapped[str | None] = mapped_column(sa.Text)
    state_since: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    address: Mapped[str | None] = mapped_column(sa.String(255))
    """`host:port` read by inspect after the last start."""
    company_id: Mapped[str | None] = mapped_column(sa.String(100))
    epoch: Mapped[int] = mapped_column(default=1)
    provision_secret: Mapped[Any] = mapped_column(EncryptedJSON, nullable=True)
    needs_attention: Mapped[str | None] = mapped_column(sa.Text)
    """Why a person must look: no automatic update until an operator clears it."""
    lease_owner: Mapped[str | None] = mapped_column(sa.String(64))
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    org: Mapped[Org] = relationship()
    node: Mapped[Node] = relationship()

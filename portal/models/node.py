"""Nodes: the Docker engines on which bots run. Used by services and jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import Base, choice, new_id, utcnow
from portal.models.outside_text import OutsideLine, OutsideText


class NodeState(StrEnum):
    """State of a node: `draining` gets no updates and no new bots; `offline` did not answer."""

    ACTIVE = "active"
    DRAINING = "draining"
    OFFLINE = "offline"


class Node(Base):
    """One Docker engine."""

    __tablename__ = "nodes"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(sa.String(63), unique=True)
    docker_url: Mapped[str] = mapped_column(sa.String(255))
    engine_id: Mapped[str | None] = mapped_column(OutsideLine(255), unique=True)
    """Id that the engine reports, if any. Unique, because one engine added as two nodes could give one container to
    two bots."""
    tls: Mapped[dict[str, Any] | None]
    """Paths of `ca`, `cert` and `key` for a TCP connection with TLS."""
    bot_host: Mapped[str] = mapped_column(sa.String(255), default="127.0.0.1")
    """Host at which the published ports of the bots are reached."""
    port_first: Mapped[int] = mapped_column(default=20000)
    port_last: Mapped[int] = mapped_column(default=29999)
    snapshot_dir: Mapped[str] = mapped_column(sa.String(255))
    """Folder for archives on the disk of the node, which the worker may be unable to read."""
    platform: Mapped[str] = mapped_column(OutsideLine(64), default="linux/amd64")
    state: Mapped[NodeState] = mapped_column(choice(NodeState), default=NodeState.ACTIVE)
    last_seen_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

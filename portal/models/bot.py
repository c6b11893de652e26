"""Bots: one managed container of an organization, on one node. Used by services and jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, choice, new_id, partial_index, utcnow
from portal.models.encrypted import EncryptedJSON
from portal.models.node import Node
from portal.models.org import Org
from portal.models.outside_text import OutsideLine, OutsideText
from portal.models.release import Release


class Channel(StrEnum):
    """Release channel: the polling interval of the image (5, 15, 30 minutes, never) and the order of canaries."""

    CANARY = "canary"
    STAGING = "staging"
    STABLE = "stable"
    PINNED = "pinned"


class DesiredState(StrEnum):
    """State that an operator or customer has requested."""

    RUNNING = "running"
    STOPPED = "stopped"


class BotState(StrEnum):
    """State that the last probe observed."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"
    MISSING = "missing"


class BotPhase(StrEnum):
    """Phase in the life of a bot. `CREATING`: its container does not exist yet. `REMOVED`: only its row is left."""

    CREATING = "creating"
    ACTIVE = "active"
    REMOVING = "removing"
    REMOVED = "removed"


class HealthExpectation(StrEnum):
    """Which response of the health path means that a bot is healthy."""

    JSON_STATUS_OK = "json_status_ok"
    """Status 200 and JSON whose `status` is `"ok"`."""
    ANY_2XX = "any_2xx"


_EXCEPTIONAL = (
    "phase <> 'active' OR state <> 'running' OR desired_state <> 'running' OR release_channel = 'pinned'"
    " OR needs_attention IS NOT NULL OR held_until IS NOT NULL"
)
# JSON columns store None as the text `null`.
_CHANGING = (
    "desired_state <> applied_state OR restart_requested_at IS NOT NULL"
    " OR coalesce(CAST(restart_policy AS TEXT), 'null') <> 'null'"
)


class Bot(Base):
    """One managed container of an organization. Its lease and fence serialize all work on the container."""

    __tablename__ = "bots"
    __table_args__ = (
        sa.UniqueConstraint("node_id", "container_id"),
        sa.UniqueConstraint("node_id", "host_port"),
        # Contains what tells that a bot needs no automatic update, so that a tick does not read the rows.
        sa.Index(None, "image", "current_digest", "org_id", "id"),
        sa.Index(None, "current_digest", "id"),
        # Starts with the channel, so that SQLite does not choose it for a search by image.
        sa.Index(None, "release_channel", "image"),
        # Contains what the list of the fleet filters by, in its order, so that only the rows of one page are read.
        sa.Index(
            "ix_bots_listing",
            *("org_id", "name", "id", "phase", "state", "release_channel", "node_id", "current_digest", "image"),
        ),
        partial_index("ix_bots_exceptional", "id", _EXCEPTIONAL),
        partial_index("ix_bots_changing", "id", _CHANGING),
        partial_index("ix_bots_skipping", "skipped_release_id", "skipped_release_id IS NOT NULL"),
    )

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    org_id: Mapped[str] = mapped_column(sa.ForeignKey("orgs.id"), index=True)
    node_id: Mapped[str] = mapped_column(sa.ForeignKey("nodes.id"), index=True)
    name: Mapped[str] = mapped_column(OutsideLine(100))
    subdomain: Mapped[str] = mapped_column(sa.String(63), unique=True)
    image: Mapped[str] = mapped_column(sa.String(300))
    """Normalized reference with tag, as `str(Reference)` formats it."""
    release_channel: Mapped[Channel] = mapped_column(choice(Channel), default=Channel.STABLE)
    port: Mapped[int] = mapped_column(default=3100)
    health_path: Mapped[str] = mapped_column(sa.String(200), default="/health")
    health_expectation: Mapped[HealthExpectation] = mapped_column(
        choice(HealthExpectation), default=HealthExpectation.JSON_STATUS_OK
    )
    host_port: Mapped[int | None]
    """Port of the node that is reserved for this bot. None for adopted bots, whose containers publish their own."""
    phase: Mapped[BotPhase] = mapped_column(choice(BotPhase), default=BotPhase.ACTIVE, index=True)
    creation_attempts: Mapped[int] = mapped_column(default=0)
    creation_due_at: Mapped[datetime | None]
    """When a worker may try again to create the container."""
    creation_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    remove_after: Mapped[datetime | None]
    """End of the grace period of a removal."""
    keep_data: Mapped[bool | None]
    """Whether the removal keeps the volumes."""
    header_prefix: Mapped[str] = mapped_column(sa.String(64), default="x-platform-user")
    """The gateway sends the identity of the caller in headers `<prefix>-id`, `<prefix>-email` and `<prefix>-name`."""
    secret_variable: Mapped[str | None] = mapped_column(sa.String(100))
    """Environment variable of the container that contains the provision secret. None for adopted bots."""
    spec: Mapped[Any] = mapped_column(EncryptedJSON, default=dict)
    """Description of the container when it was adopted or created. Encrypted, because it contains the environment."""
    unprotected: Mapped[list[str]] = mapped_column(default=list)
    """Writable binds in the container, which snapshots do not include. A bot with such paths is never a canary."""
    container_id: Mapped[str | None] = mapped_column(sa.String(64))
    container_name: Mapped[str | None] = mapped_column(OutsideLine(255))
    current_digest: Mapped[str | None] = mapped_column(sa.String(71))
    desired_state: Mapped[DesiredState] = mapped_column(choice(DesiredState), default=DesiredState.RUNNING)
    applied_state: Mapped[DesiredState] = mapped_column(choice(DesiredState), default=DesiredState.RUNNING)
    """Desired state that a worker applied last. While both differ, the scheduler enqueues a job."""
    restart_requested_at: Mapped[datetime | None]
    """When the restart that a worker has not done yet is due: when a user requested it, when a probe found the bot
    stopped, or after a failed start the moment of the next attempt."""
    desired_when_restored: Mapped[DesiredState | None] = mapped_column(choice(DesiredState))
    """Desired state to return to if the deletion of the organization or the removal of the bot is cancelled."""
    restart_policy: Mapped[dict[str, Any] | None]
    """Restart policy to set again at the next start, while Flotilla has stopped the bot."""
    volumes_to_remove: Mapped[list[str] | None]
    """Volumes to remove during a purge, recorded because a removed container no longer names them."""
    state: Mapped[BotState] = mapped_column(choice(BotState), default=BotState.UNKNOWN)
    state_detail: Mapped[str | None] = mapped_column(OutsideText(1000))
    state_since: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    address: Mapped[str | None] = mapped_column(OutsideLine(255))
    """`host:port`, read from the engine after the last start."""
    company_id: Mapped[str | None] = mapped_column(OutsideLine(100))
    """Id of the organization in the bot: the `tenantEntityId` of provisioning."""
    epoch: Mapped[int] = mapped_column(default=1)
    """Grows when the data of the bot was created, restored or replaced. Roles observed before are unknown since."""
    provision_secret: Mapped[Any] = mapped_column(EncryptedJSON, nullable=True)
    """`{"current": …, "next": …}`. During a rotation both may be valid in the bot; otherwise `next` is null."""
    needs_attention: Mapped[str | None] = mapped_column(OutsideText(50_000))
    """Instructions after a failed rollback. No automatic update starts until an operator clears them."""
    held_until: Mapped[datetime | None]
    """Until when rollouts leave the bot out, unless they name it. The scheduler removes it when the moment comes."""
    hold_reason: Mapped[str | None] = mapped_column(OutsideText(500))
    skipped_release_id: Mapped[str | None] = mapped_column(sa.String(16))
    """The release that the organization skips: automatic updates leave the bot out, and no mail offers it. A newer
    release is offered again. No foreign key, because SQLite could add it only by copying the table."""
    lease_owner: Mapped[str | None] = mapped_column(sa.String(64))
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)

    org: Mapped[Org] = relationship()
    node: Mapped[Node] = relationship()

    def skips(self, release: Release | None) -> bool:
        """Return whether the organization skips this release."""
        return release is not None and self.skipped_release_id == release.id

    @hybrid_property
    def is_being_started(self) -> bool:
        """Whether the container stopped without a request, and Flotilla starts it again."""
        has_to_run = self.desired_state is DesiredState.RUNNING and self.needs_attention is None
        return has_to_run and self.state is BotState.STOPPED and self.restart_requested_at is not None

    @is_being_started.inplace.expression
    @classmethod
    def _is_being_started(cls) -> sa.ColumnElement[bool]:
        has_to_run = sa.and_(cls.desired_state == DesiredState.RUNNING, cls.needs_attention.is_(None))
        return sa.and_(has_to_run, cls.state == BotState.STOPPED, cls.restart_requested_at.is_not(None))

    @classmethod
    def is_active(cls) -> sa.ColumnElement[bool]:
        """Return the condition for active bots, in a form that lets no database read all bots by their phase."""
        return cls.phase.not_in([phase for phase in BotPhase if phase is not BotPhase.ACTIVE])

    @classmethod
    def select_exceptional(cls) -> sa.Select[str]:
        """Select the ids of the bots that are not simply running: stopped, down, pinned, being removed, and others.

        These are few, and a partial index contains them, so that no process has to read all bots to find them.
        """
        return sa.select(cls.id).where(sa.text(f"({_EXCEPTIONAL})"))

    @classmethod
    def select_changing(cls) -> sa.Select[str]:
        """Select the ids of the bots that a worker may have to start, stop or restart, from a partial index."""
        return sa.select(cls.id).where(sa.text(f"({_CHANGING})"))


class BotLabel(Base):
    """A word by which operators find and choose bots."""

    __tablename__ = "bot_labels"
    __table_args__ = (sa.Index(None, "label", "bot_id"),)

    bot_id: Mapped[str] = mapped_column(sa.ForeignKey("bots.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(sa.String(40), primary_key=True)

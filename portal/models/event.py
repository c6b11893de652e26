"""Tables of the append-only event log and of the personal data in it, and the tags of its events."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, utcnow
from portal.models.outside_text import OutsideLine


class EventTag(StrEnum):
    """What an event is about, as `subject.what_happened`. The values are stored, so they never change."""

    ACCESS_REFUSED = "access.refused"
    ALERT_CHANNEL_ADDED = "alert.channel_added"
    ALERT_CHANNEL_CHANGED = "alert.channel_changed"
    ALERT_CHANNEL_DELETED = "alert.channel_deleted"
    ALERT_CHANNEL_PAUSED = "alert.channel_paused"
    ALERT_CHANNEL_RESUMED = "alert.channel_resumed"
    BACKUP_RESTORED = "backup.restored"
    BOT_ATTACHED = "bot.attached"
    BOT_ATTENTION_CLEARED = "bot.attention_cleared"
    BOT_BUDGET_CHANGED = "bot.budget_changed"
    BOT_CHANNEL_CHANGED = "bot.channel_changed"
    BOT_CONNECTED = "bot.connected"
    BOT_CREATED = "bot.created"
    BOT_CREATION_FAILED = "bot.creation_failed"
    BOT_CREATION_RETRIED = "bot.creation_retried"
    BOT_HOLD_ENDED = "bot.hold_ended"
    BOT_LABELS_CHANGED = "bot.labels_changed"
    BOT_OPENED = "bot.opened"
    """A user began a session at the host of the bot."""
    BOT_PROVISIONED = "bot.provisioned"
    BOT_READY = "bot.ready"
    BOT_RECOVERED = "bot.recovered"
    BOT_RECOVERY_REQUESTED = "bot.recovery_requested"
    BOT_RELEASE_SKIPPED = "bot.release_skipped"
    BOT_REMOVAL_REQUESTED = "bot.removal_requested"
    BOT_REMOVED = "bot.removed"
    BOT_RESTARTED = "bot.restarted"
    BOT_RESTART_REQUESTED = "bot.restart_requested"
    BOT_RESTORED = "bot.restored"
    BOT_SECRET_ROTATED = "bot.secret_rotated"  # noqa: S105 - a tag, not a secret
    BOT_SECRET_ROTATION_BEGUN = "bot.secret_rotation_begun"  # noqa: S105 - a tag, not a secret
    BOT_SKIP_ENDED = "bot.skip_ended"
    BOT_STARTED = "bot.started"
    BOT_START_FAILED = "bot.start_failed"
    BOT_START_REQUESTED = "bot.start_requested"
    BOT_STATE_CHANGED = "bot.state_changed"
    BOT_STOPPED = "bot.stopped"
    BOT_STOP_REQUESTED = "bot.stop_requested"
    BOT_UPDATE_FAILED = "bot.update_failed"
    BOT_UPDATES_HELD = "bot.updates_held"
    BOT_UPDATED = "bot.updated"
    CONFIG_CHANGED = "config.changed"
    FORK_CONFLICT = "fork.conflict"
    FORK_SYNCED = "fork.synced"
    FORK_SYNC_REFUSED = "fork.sync_refused"
    IMAGE_LOOK_UP_FAILED = "image.look_up_failed"
    IMAGE_VANISHED = "image.vanished"
    INVITE_ACCEPTED = "invite.accepted"
    INVITE_COPIED = "invite.copied"
    INVITE_DECLINED = "invite.declined"
    INVITE_EXPIRED = "invite.expired"
    INVITE_RESENT = "invite.resent"
    INVITE_REVOKED = "invite.revoked"
    INVITE_SENT = "invite.sent"
    MAIL_DISMISSED = "mail.dismissed"
    MAIL_FAILED = "mail.failed"
    MAIL_RESENT = "mail.resent"
    MEMBER_JOINED = "member.joined"
    MEMBER_LEFT = "member.left"
    MEMBER_REMOVED = "member.removed"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    NODE_ADDED = "node.added"
    NODE_CHANGED = "node.changed"
    NODE_OFFLINE = "node.offline"
    NODE_ONLINE = "node.online"
    NODE_REMOVED = "node.removed"
    ORG_CREATED = "org.created"
    ORG_DELETED = "org.deleted"
    ORG_DELETION_REQUESTED = "org.deletion_requested"
    ORG_RENAMED = "org.renamed"
    ORG_RESTORED = "org.restored"
    RELEASE_DETECTED = "release.detected"
    RELEASE_QUARANTINED = "release.quarantined"
    RELEASE_QUARANTINE_LIFTED = "release.released"
    ROLLOUT_ABORTED = "rollout.aborted"
    ROLLOUT_COMPLETED = "rollout.completed"
    ROLLOUT_HASTENED = "rollout.hastened"
    ROLLOUT_PAUSED = "rollout.paused"
    ROLLOUT_RESUMED = "rollout.resumed"
    ROLLOUT_STARTED = "rollout.started"
    ROLLOUT_SUPERSEDED = "rollout.superseded"
    SESSION_ENDED = "session.ended"
    SNAPSHOT_DELETED = "snapshot.deleted"
    SYNC_BLOCKED = "sync.blocked"
    SYNC_DRIFT_REPAIRED = "sync.drift_repaired"
    SYNC_REMOVALS_ALLOWED = "sync.removals_allowed"
    SYNC_REMOVALS_REFUSED = "sync.removals_refused"
    SYNC_REQUESTED = "sync.requested"
    TRANSFER_ACCEPTED = "transfer.accepted"
    TRANSFER_DECLINED = "transfer.declined"
    TRANSFER_ENDED = "transfer.ended"
    TRANSFER_EXPIRED = "transfer.expired"
    TRANSFER_OFFERED = "transfer.offered"
    TRANSFER_WITHDRAWN = "transfer.withdrawn"
    USER_DELETED = "user.deleted"
    USER_DISABLED = "user.disabled"
    USER_EMAIL_CHANGED = "user.email_changed"
    USER_ENABLED = "user.enabled"
    USER_OPERATOR_CREATED = "user.operator_created"
    USER_OPERATOR_GRANTED = "user.operator_granted"
    USER_OPERATOR_REVOKED = "user.operator_revoked"
    USER_PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - a tag, not a password
    USER_RENAMED = "user.renamed"
    USER_SIGN_IN_FAILED = "user.sign_in_failed"
    USER_SIGNED_IN = "user.signed_in"
    USER_SIGNED_OUT = "user.signed_out"
    USER_SIGNED_UP = "user.signed_up"
    VIEW_DELETED = "view.deleted"
    VIEW_SAVED = "view.saved"


class Event(Base):
    """One event. A database trigger refuses to change or delete rows.

    Ids have no foreign keys, so that events outlive the rows they refer to.
    """

    __tablename__ = "events"
    __table_args__ = (
        # Each filter of the log follows an index that ends with the id, and reads the newest events only.
        sa.Index(None, "tag", "id"),
        sa.Index(None, "actor_id", "id"),
        sa.Index(None, "user_id", "id"),
        sa.Index(None, "bot_id", "id"),
        sa.Index(None, "org_id", "tag", "id"),
        sa.Index(None, "org_id", "id"),
    )

    id: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    tag: Mapped[str] = mapped_column(sa.String(64))
    actor_id: Mapped[str | None] = mapped_column(sa.String(16))
    org_id: Mapped[str | None] = mapped_column(sa.String(16))
    bot_id: Mapped[str | None] = mapped_column(sa.String(16))
    rollout_id: Mapped[str | None] = mapped_column(sa.String(16), index=True)
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    user_id: Mapped[str | None] = mapped_column(sa.String(16), sa.Computed("data ->> 'user_id'"))
    """The user whom the event concerns, from `data`. The database computes it."""
    request_id: Mapped[str | None] = mapped_column(OutsideLine(64))
    address: Mapped[str | None] = mapped_column(OutsideLine(45))
    """Network address of the browser that sent the request."""

    personal: Mapped[EventPersonalData | None] = relationship(lazy="joined")

    @property
    def facts(self) -> dict[str, Any]:
        """The data of the event, with the personal data that was not erased."""
        return {**self.data, **(self.personal.data if self.personal else {})}


class EventPersonalData(Base):
    """Email addresses and names of people in one event. They are erased when a person deletes the account.

    A database trigger refuses to change rows, but not to delete them, so that the log can lose personal data and
    nothing else.
    """

    __tablename__ = "event_personal_data"
    __table_args__ = (sa.Index(None, "email_normalized", "event_id"),)

    event_id: Mapped[int] = mapped_column(
        sa.ForeignKey("events.id"),
        primary_key=True,
        autoincrement=False,
        type_=sa.BigInteger().with_variant(sa.Integer, "sqlite"),
    )
    user_id: Mapped[str | None] = mapped_column(sa.String(16), index=True)
    """The user whom the event concerns; None for a person without an account."""
    email_normalized: Mapped[str | None] = mapped_column(sa.String(254))
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)

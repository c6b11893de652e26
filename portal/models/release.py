"""Releases found in registries, polled images, and pulls for reading changelogs. Used by polling and rollouts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, new_id, utcnow
from portal.models.outside_text import OutsideText


class Release(Base):
    """One digest of a repository. A quarantine applies to every tag of the repository."""

    __tablename__ = "releases"
    __table_args__ = (sa.UniqueConstraint("repository", "digest"),)
    # The computed version is read again with each change, because commands print it after the transaction.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - read by SQLAlchemy, which declares it so

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    repository: Mapped[str] = mapped_column(sa.String(300))
    """`registry/repository`, as `Reference.name` writes it."""
    image: Mapped[str] = mapped_column(sa.String(300), index=True)
    """The reference under which the release was first seen."""
    digest: Mapped[str] = mapped_column(sa.String(71))
    """The digest that updates pin: the digest of the index, where there is one."""
    platform_digests: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`{"linux/amd64": "sha256:…"}`; empty for an image without an index."""
    alias_digests: Mapped[list[str]] = mapped_column(default=list)
    """Digests of later indexes with the same platform manifests, which are the same release."""
    changelog: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    """`{"version", "date", "sections"}` as read from the image; None before reading or without a changelog.

    Loaded when it is used, because lists need the version only.
    """
    changelog_version: Mapped[str | None] = mapped_column(sa.Text, sa.Computed("changelog ->> 'version'"))
    """The version in `changelog`. The database computes it."""
    changelog_date: Mapped[str | None] = mapped_column(sa.Text, sa.Computed("changelog ->> 'date'"))
    """The date in `changelog`. The database computes it."""
    changelog_read_at: Mapped[datetime | None]
    changelog_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    changelog_attempts: Mapped[int] = mapped_column(default=0)
    changelog_next_at: Mapped[datetime | None]
    """When reading the changelog is tried again. A worker that reads it sets a moment in the future."""
    first_seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    quarantined_at: Mapped[datetime | None]
    quarantine_reason: Mapped[str | None] = mapped_column(OutsideText(4000))
    quarantine_lifted_at: Mapped[datetime | None]
    """When an operator lifted the last quarantine."""

    @property
    def digests(self) -> frozenset[str]:
        """Every digest by which an engine may name this release."""
        return frozenset({self.digest, *self.platform_digests.values(), *self.alias_digests})

    @property
    def version(self) -> str:
        """The version of the changelog, or the shortened digest."""
        return self.changelog_version or self.digest.removeprefix("sha256:")[:12]


class PolledImage(Base):
    """A distinct image that bots run, or a digest that an operator pasted, which is polled once."""

    __tablename__ = "polled_images"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    image: Mapped[str] = mapped_column(sa.String(300), unique=True)
    next_poll_at: Mapped[datetime | None] = mapped_column(index=True)
    """None: not due automatically (only pinned bots, or a pasted digest that was polled)."""
    last_digest: Mapped[str | None] = mapped_column(sa.String(71))
    release_id: Mapped[str | None] = mapped_column(sa.ForeignKey("releases.id"))
    """The release at which the tag points, by the last successful poll."""
    last_checked_at: Mapped[datetime | None]
    """When the last successful poll started."""
    last_error: Mapped[str | None] = mapped_column(OutsideText(2000))
    last_error_at: Mapped[datetime | None]
    errors: Mapped[int] = mapped_column(default=0)
    """Failed polls since the last successful one."""
    is_slow: Mapped[bool] = mapped_column(default=False)
    """Whether the registry was too slow for a quick poll. One image marks all images of its registry."""

    release: Mapped[Release | None] = relationship()

    @hybrid_property
    def asked_once(self) -> bool:
        """Whether an operator pasted this digest. Bots follow tags, so no bot depends on it."""
        return "@" in self.image

    @asked_once.inplace.expression
    @classmethod
    def _asked_once(cls) -> sa.ColumnElement[bool]:
        return cls.image.contains("@")


class ReadingPull(Base):
    """A pull by a node only to read a changelog. The collector may remove the image when no bot needs it."""

    __tablename__ = "reading_pulls"

    node_id: Mapped[str] = mapped_column(sa.ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True)
    release_id: Mapped[str] = mapped_column(sa.ForeignKey("releases.id", ondelete="CASCADE"), primary_key=True)
    pulled_at: Mapped[datetime]

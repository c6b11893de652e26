"""What was seen in registries: the images that are polled, the releases found, and who pulled them to be read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship

from portal.models.base import Base, new_id, utcnow


class Release(Base):
    """One digest seen in a repository. It belongs to the repository, so a quarantine holds for every tag."""

    __tablename__ = "releases"
    __table_args__ = (sa.UniqueConstraint("repository", "digest"),)

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    repository: Mapped[str] = mapped_column(sa.String(300))
    """`registry/repository`, as `Reference.name` writes it."""
    image: Mapped[str] = mapped_column(sa.String(300), index=True)
    """The reference it was first seen under."""
    digest: Mapped[str] = mapped_column(sa.String(71))
    """The digest that is pinned: of the index where there is one."""
    platform_digests: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`{"linux/amd64": "sha256:…"}`; empty for an image without an index."""
    alias_digests: Mapped[list[str]] = mapped_column(default=list)
    """Indexes pushed later that name the same platform manifests: the same release in a new wrapping."""
    changelog: Mapped[dict[str, Any] | None]
    """`{"version", "date", "sections"}` as read from the image; None before reading and where it has none."""
    changelog_read_at: Mapped[datetime | None]
    changelog_error: Mapped[str | None] = mapped_column(sa.Text)
    changelog_attempts: Mapped[int] = mapped_column(default=0)
    changelog_next_at: Mapped[datetime | None]
    """Reading it is tried again then; also the moment until which somebody is at it."""
    first_seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    quarantined_at: Mapped[datetime | None]
    quarantine_reason: Mapped[str | None] = mapped_column(sa.Text)
    quarantine_lifted_at: Mapped[datetime | None]
    """When an operator lifted its last quarantine."""

    @property
    def digests(self) -> frozenset[str]:
        """Every digest under which an engine may know this release."""
        return frozenset({self.digest, *self.platform_digests.values(), *self.alias_digests})

    @property
    def version(self) -> str:
        """What people call it: the changelog's version, else the shortened digest."""
        if self.changelog:
            return str(self.changelog["version"])
        return self.digest.removeprefix("sha256:")[:12]


class PolledImage(Base):
    """A distinct image that bots run, or one digest an operator pasted: asked for once, then never due again."""

    __tablename__ = "polled_images"

    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True, default=new_id)
    image: Mapped[str] = mapped_column(sa.String(300), unique=True)
    next_poll_at: Mapped[datetime | None] = mapped_column(index=True)
    """None: not due by itself (pinned, or a pasted digest that was looked up)."""
    last_digest: Mapped[str | None] = mapped_column(sa.String(71))
    release_id: Mapped[str | None] = mapped_column(sa.ForeignKey("releases.id"))
    """What the image's tag points at now: the last good answer."""
    last_checked_at: Mapped[datetime | None]
    """When the registry last gave a good answer."""
    last_error: Mapped[str | None] = mapped_column(sa.Text)
    last_error_at: Mapped[datetime | None]
    errors: Mapped[int] = mapped_column(default=0)
    """Failed polls since the last good one."""

    release: Mapped[Release | None] = relationship()

    @hybrid_property
    def asked_once(self) -> bool:
        """Whether it is a digest an operator pasted. Bots follow tags, so no bot waits for the answer."""
        return "@" in self.image

    @asked_once.inplace.expression
    @classmethod
    def _asked_once(cls) -> sa.ColumnElement[bool]:
        return cls.image.contains("@")


class ReadingPull(Base):
    """A node was made to pull the image of a release, which it did not have, only for the changelog to be read."""

    __tablename__ = "reading_pulls"

    node_id: Mapped[str] = mapped_column(sa.ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True)
    release_id: Mapped[str] = mapped_column(sa.ForeignKey("releases.id", ondelete="CASCADE"), primary_key=True)
    pulled_at: Mapped[datetime]

"""Lists of releases and polled images. Used by admin pages and the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import Bot, BotPhase, PolledImage, Release, Rollout

_LIMIT = 100
_EXISTS = Bot.phase != BotPhase.REMOVED


@dataclass(frozen=True)
class ImageRow:
    """A polled image with the number of bots that follow it."""

    row: PolledImage
    bots: int


@dataclass(frozen=True)
class ReleaseRow:
    """A release with the tags that point at it now and the number of bots that run it."""

    release: Release
    tags: list[str]
    bots: int


def list_images(session: Session) -> list[ImageRow]:
    """List every polled image, by name."""
    counts: Counter[str] = Counter()
    for (image, _digest), number in _count_bots(session).items():
        counts[image] += number
    rows = session.scalars(
        sa.select(PolledImage).options(joinedload(PolledImage.release)).order_by(PolledImage.image)
    )
    return [ImageRow(row, counts[row.image]) for row in rows]


def list_releases(session: Session) -> list[ReleaseRow]:
    """List the latest releases, newest first."""
    tags: dict[str | None, list[str]] = {}
    pointing = sa.select(PolledImage.release_id, PolledImage.image).where(~PolledImage.asked_once)
    for release_id, image in session.execute(pointing.order_by(PolledImage.image)):
        tags.setdefault(release_id, []).append(image)
    bots: Counter[str | None] = Counter()
    for (_image, digest), number in _count_bots(session).items():
        bots[digest] += number
    newest = session.scalars(sa.select(Release).order_by(Release.first_seen_at.desc(), Release.id).limit(_LIMIT))
    return [
        ReleaseRow(
            release=release,
            tags=tags.get(release.id, []),
            bots=sum(bots[digest] for digest in release.digests),
        )
        for release in newest
    ]


def count_bots(session: Session, release: Release) -> int:
    """Count the bots that run this release."""
    count = sa.select(sa.func.count()).select_from(Bot).where(_EXISTS, Bot.current_digest.in_(release.digests))
    return session.scalar(count) or 0


def list_rollouts(session: Session, release: Release) -> Sequence[Rollout]:
    """List the latest rollouts of this release, newest first."""
    query = sa.select(Rollout).where(Rollout.release_id == release.id).options(joinedload(Rollout.starter))
    return session.scalars(query.order_by(Rollout.created_at.desc()).limit(_LIMIT)).all()


def _count_bots(session: Session) -> Counter[tuple[str, str | None]]:
    """Count the bots by image and digest, from indexes: all bots without the removed ones."""
    columns = (Bot.image, Bot.current_digest)
    counted = sa.select(*columns, sa.func.count()).group_by(*columns)
    removed = counted.where(Bot.id.in_(Bot.select_exceptional()), Bot.phase == BotPhase.REMOVED)
    counts = Counter({(image, digest): number for image, digest, number in session.execute(counted)})
    counts.subtract({(image, digest): number for image, digest, number in session.execute(removed)})
    return counts

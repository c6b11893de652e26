"""Which releases have a changelog to be read out of their image, who reads it, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Node, NodeState, ReadingPull, Release, update_where
from portal.rules.references import parse_reference

_READING_TAKES = timedelta(minutes=10)
_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True)
class ClaimedReading:
    """A changelog somebody took on: the image, pinned by digest, and the nodes whose engines could hold it."""

    release_id: str
    image: str
    nodes: list[Node]


def list_due(session: Session, now: datetime) -> list[str]:
    """Ids of the releases whose changelog should be read now, the newest first."""
    return list(session.scalars(sa.select(Release.id).where(_is_due(now)).order_by(Release.first_seen_at.desc())))


def claim_reading(session: Session, release_id: str, now: datetime) -> ClaimedReading | None:
    """Take on a reading; None when it is not due or another worker is at it.

    The nodes are active ones of a platform the release was built for, first those that run bots of its
    repository: they will need the image anyway.
    """
    values = {"changelog_next_at": now + _READING_TAKES, "changelog_attempts": Release.changelog_attempts + 1}
    if update_where(session, Release, Release.id == release_id, _is_due(now), **values) == 0:
        return None
    release = session.get_one(Release, release_id)
    pinned = parse_reference(release.image).pinned(release.digest)
    return ClaimedReading(release.id, pinned, _nodes(session, release))


def record_pull(session: Session, release_id: str, node_id: str, now: datetime) -> None:
    """Write down that a node is about to pull a release's image only to have the changelog read.

    The caller has made sure that the node does not have it, so that it is ours to remove once nobody needs it.
    """
    session.merge(ReadingPull(node_id=node_id, release_id=release_id, pulled_at=now))


def record_changelog(session: Session, release_id: str, changelog: dict[str, Any] | None, now: datetime) -> Release:
    """Write down what was read; None where the image has no changelog."""
    release = session.get_one(Release, release_id)
    release.changelog, release.changelog_read_at = changelog, now
    release.changelog_error, release.changelog_next_at = None, None
    session.flush()
    return release


def record_invalid(session: Session, release_id: str, error: str, now: datetime) -> Release:
    """Write down that the image's changelog breaks the contract: reading it again would not help."""
    release = session.get_one(Release, release_id)
    release.changelog_read_at, release.changelog_error, release.changelog_next_at = now, error, None
    session.flush()
    return release


def record_failure(session: Session, release_id: str, error: str, now: datetime) -> None:
    """Write down that nobody could read it; it is tried again after a pause that grows to a day."""
    release = session.get_one(Release, release_id)
    doublings = min(release.changelog_attempts - 1, 12)
    release.changelog_error = error
    release.changelog_next_at = now + min(_FIRST_PAUSE * 2**doublings, _LONGEST_PAUSE)
    session.flush()


def _is_due(now: datetime) -> sa.ColumnElement[bool]:
    is_time = sa.or_(Release.changelog_next_at.is_(None), Release.changelog_next_at <= now)
    return sa.and_(Release.changelog_read_at.is_(None), is_time)


def _nodes(session: Session, release: Release) -> list[Node]:
    runs_it = sa.exists().where(
        Bot.node_id == Node.id, Bot.image.startswith(f"{release.repository}:", autoescape=True)
    )
    statement = sa.select(Node).where(Node.state == NodeState.ACTIVE).order_by(runs_it.desc(), Node.created_at)
    fits = release.platform_digests
    return [node for node in session.scalars(statement) if not fits or node.platform in fits]

"""Reading changelogs from images: due releases, claims, results. Used by the job that reads a changelog."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Node, NodeState, ReadingPull, Release, update_where
from portal.rules.references import parse_reference

CLAIM_DURATION = timedelta(minutes=10)
"""Duration of the claim on a reading, longer than all its time limits together."""

_FIRST_RETRY_WAIT = timedelta(seconds=30)
_LONGEST_RETRY_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class ClaimedReading:
    """A claimed changelog: the image, pinned by digest, and the nodes that can run the image."""

    release_id: str
    image: str
    nodes: list[Node]


def list_due(session: Session, now: datetime) -> list[str]:
    """List ids of the releases whose changelog is due, newest first."""
    return list(session.scalars(sa.select(Release.id).where(_is_due(now)).order_by(Release.first_seen_at.desc())))


def claim_reading(session: Session, release_id: str, now: datetime) -> ClaimedReading | None:
    """Claim the changelog of a release; None when it is not due, as when another worker has claimed it.

    The nodes are active and of a platform of the release. Nodes that run bots of the repository come first, because
    they need the image anyway.
    """
    values = {"changelog_next_at": now + CLAIM_DURATION, "changelog_attempts": Release.changelog_attempts + 1}
    if update_where(session, Release, Release.id == release_id, _is_due(now), **values) == 0:
        return None
    release = session.get_one(Release, release_id)
    pinned = parse_reference(release.image).pinned(release.digest)
    return ClaimedReading(release.id, pinned, _list_nodes(session, release))


def record_pull(session: Session, release_id: str, node_id: str, now: datetime) -> None:
    """Record that a node pulls the image of a release only to read the changelog.

    The caller has checked that the node does not have the image, so the collector may remove the image later.
    """
    session.merge(ReadingPull(node_id=node_id, release_id=release_id, pulled_at=now))


def record_changelog(session: Session, release_id: str, changelog: dict[str, Any] | None, now: datetime) -> Release:
    """Record a changelog; None where the image has no changelog."""
    release = session.get_one(Release, release_id)
    release.changelog, release.changelog_read_at = changelog, now
    release.changelog_error, release.changelog_next_at = None, None
    session.flush()
    return release


def record_invalid(session: Session, release_id: str, error: str, now: datetime) -> Release:
    """Record that the changelog has an invalid format. It is not read again."""
    release = session.get_one(Release, release_id)
    release.changelog_read_at, release.changelog_error, release.changelog_next_at = now, error, None
    session.flush()
    return release


def record_failure(session: Session, release_id: str, error: str, now: datetime) -> None:
    """Record that the changelog could not be read. The wait before the next attempt doubles up to a day."""
    release = session.get_one(Release, release_id)
    doublings = min(release.changelog_attempts - 1, 12)
    release.changelog_error = error
    release.changelog_next_at = now + min(_FIRST_RETRY_WAIT * 2**doublings, _LONGEST_RETRY_WAIT)
    session.flush()


def _is_due(now: datetime) -> sa.ColumnElement[bool]:
    is_time = sa.or_(Release.changelog_next_at.is_(None), Release.changelog_next_at <= now)
    return sa.and_(Release.changelog_read_at.is_(None), is_time)


def _list_nodes(session: Session, release: Release) -> list[Node]:
    runs_it = sa.exists().where(
        Bot.node_id == Node.id, Bot.image.startswith(f"{release.repository}:", autoescape=True)
    )
    statement = sa.select(Node).where(Node.state == NodeState.ACTIVE).order_by(runs_it.desc(), Node.created_at)
    platforms = release.platform_digests
    return [node for node in session.scalars(statement) if not platforms or node.platform in platforms]

"""The fleet in numbers: healthy, stopped and outdated bots, and their versions. Used by the operators' overview.

The numbers come from indexes: all bots are only counted, and rows are read for the few that are not simply running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, BotState, BotUpdate, Channel, Release, UpdateState
from portal.rules.references import parse_reference
from portal.services.releases import releases

RECENTLY = timedelta(hours=24)
"""Age up to which a failed update counts as recent."""
FAILED_STATES = (UpdateState.FAILED, UpdateState.ROLLED_BACK, UpdateState.NEEDS_ATTENTION)
UNHEALTHY_STATES = (BotState.UNHEALTHY, BotState.MISSING, BotState.UNKNOWN)
_VERSIONS = 5
"""Versions of an image that are shown one by one."""

DigestCounts = Mapping[tuple[str, str | None], int]


@dataclass(frozen=True)
class VersionShare:
    """How many bots of an image run one version; `release` is None for all other versions together."""

    release: Release | None
    bots: int


@dataclass(frozen=True)
class ImageStatus:
    """The versions of the active bots that follow one image.

    Attributes:
        image: the image.
        target: the release at which the tag points; None before the first check or while it is quarantined.
        bots: number of active bots.
        behind: number of bots that an update to the target would change.
        shares: bots by version, newest version first, other versions last.
    """

    image: str
    target: Release | None
    bots: int
    behind: int
    shares: Sequence[VersionShare]


@dataclass(frozen=True)
class FleetStatus:
    """The fleet in numbers."""

    bots: int
    healthy: int
    unhealthy: int
    stopped: int
    outdated: int
    failed: int
    """Bots with a failed update in the last 24 hours."""
    updating: int
    images: Sequence[ImageStatus] = field(default_factory=list)


class ExceptionCount(NamedTuple):
    """Number of bots that are not simply running and are equal in everything that is counted."""

    image: str
    digest: str | None
    phase: BotPhase
    state: BotState
    keeps_version: bool
    """Whether updates leave these bots out: they are pinned, or an operator holds their updates."""
    is_healthy: bool
    number: int


def load_status(session: Session, now: datetime) -> FleetStatus:
    """Load the numbers as of `now`."""
    phases = dict(session.execute(sa.select(Bot.phase, sa.func.count()).group_by(Bot.phase)).all())
    exceptions = _load_exceptions(session)
    active = [row for row in exceptions if row.phase is BotPhase.ACTIVE]
    images = _list_images(session, exceptions)
    return FleetStatus(
        bots=sum(number for phase, number in phases.items() if phase is not BotPhase.REMOVED),
        healthy=phases.get(BotPhase.ACTIVE, 0) - sum(row.number for row in active if not row.is_healthy),
        unhealthy=sum(row.number for row in active if row.state in UNHEALTHY_STATES),
        stopped=sum(row.number for row in active if row.state is BotState.STOPPED),
        outdated=sum(image.behind for image in images),
        failed=session.scalar(sa.select(sa.func.count(select_failed(now).subquery().c.bot_id.distinct()))) or 0,
        updating=session.scalar(sa.select(sa.func.count()).where(BotUpdate.is_running())) or 0,
        images=images,
    )


def select_failed(now: datetime) -> sa.Select[str]:
    """Select the ids of the bots with a failed update in the last 24 hours."""
    recent = (BotUpdate.state.in_(FAILED_STATES), BotUpdate.ended_at > now - RECENTLY)
    return sa.select(BotUpdate.bot_id).where(*recent)


def is_healthy() -> sa.ColumnElement[bool]:
    """Return the condition for bots that run and are well."""
    needs_attention = Bot.select_exceptional().where(Bot.needs_attention.is_not(None))
    return sa.and_(Bot.is_active(), Bot.state == BotState.RUNNING, Bot.id.not_in(needs_attention))


def _load_exceptions(session: Session) -> list[ExceptionCount]:
    columns = (
        Bot.image,
        Bot.current_digest,
        Bot.phase,
        Bot.state,
        (Bot.release_channel == Channel.PINNED) | Bot.held_until.is_not(None),
        (Bot.state == BotState.RUNNING) & Bot.needs_attention.is_(None),
    )
    query = sa.select(*columns, sa.func.count()).where(Bot.id.in_(Bot.select_exceptional()))
    return [ExceptionCount(*row) for row in session.execute(query.group_by(*columns))]


def _list_images(session: Session, exceptions: Sequence[ExceptionCount]) -> list[ImageStatus]:
    digests = sa.select(Bot.image, Bot.current_digest, sa.func.count()).group_by(Bot.image, Bot.current_digest)
    running = Counter({(image, digest): number for image, digest, number in session.execute(digests)})
    updatable = running.copy()
    for row in exceptions:
        key = (row.image, row.digest)
        if row.phase is not BotPhase.ACTIVE:
            running[key] -= row.number
        if row.phase is not BotPhase.ACTIVE or row.keeps_version:
            updatable[key] -= row.number
    images = sorted({image for (image, _), number in running.items() if number > 0})
    targets, known = releases.map_targets(session), _map_releases(session, images)
    return [_describe_image(image, running, updatable, targets.get(image), known) for image in images]


def _describe_image(
    image: str,
    running: DigestCounts,
    updatable: DigestCounts,
    target: Release | None,
    known: Mapping[tuple[str, str | None], Release],
) -> ImageStatus:
    repository = parse_reference(image).name
    bots: Counter[Release | None] = Counter()
    for (follows, digest), number in running.items():
        if follows == image and number > 0:
            bots[known.get((repository, digest))] += number
    behind = sum(
        number
        for (follows, digest), number in updatable.items()
        if target is not None and follows == image and digest not in target.digests
    )
    return ImageStatus(image, target, bots.total(), behind, _list_shares(bots))


def _list_shares(bots: Counter[Release | None]) -> list[VersionShare]:
    """List the most frequent versions, newest first, then all others together."""
    frequent = [release for release, _ in bots.most_common() if release is not None][:_VERSIONS]
    frequent.sort(key=lambda release: release.first_seen_at, reverse=True)
    shares = [VersionShare(release, bots[release]) for release in frequent]
    others = bots.total() - sum(share.bots for share in shares)
    return [*shares, VersionShare(None, others)] if others else shares


def _map_releases(session: Session, images: Sequence[str]) -> Mapping[tuple[str, str | None], Release]:
    repositories = {parse_reference(image).name for image in images}
    known = session.scalars(sa.select(Release).where(Release.repository.in_(sorted(repositories))))
    return {(release.repository, digest): release for release in known for digest in release.digests}

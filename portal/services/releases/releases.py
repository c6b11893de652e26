"""Releases: target of an image, outdated bots, quarantine, allowlist check. Used by rollouts, views and commands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, Channel, EventTag, PolledImage, Release, User
from portal.rules import faults
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services import events
from portal.services.errors import ConflictError, InvalidError, NotFoundError


def get_release(session: Session, release_id: str) -> Release:
    """Return a release by its id.

    Raises:
        NotFoundError: the release does not exist.
    """
    release = session.get(Release, release_id)
    if release is None:
        raise NotFoundError("This release does not exist.")
    return release


def find_version(session: Session, release_id: str) -> str:
    """Return the version of a release; empty if the release does not exist."""
    release = session.get(Release, release_id)
    return release.version if release else ""


def list_recent_releases(session: Session, limit: int = 50) -> Sequence[Release]:
    """List the latest releases, newest first."""
    return session.scalars(sa.select(Release).order_by(Release.first_seen_at.desc(), Release.id).limit(limit)).all()


def map_targets(session: Session) -> dict[str, Release]:
    """Return the target of each polled image: the release at which its tag points, unless that is quarantined."""
    query = sa.select(PolledImage.image, Release).join(PolledImage.release).where(Release.quarantined_at.is_(None))
    return dict(session.execute(query).all())


def find_target(session: Session, image: str) -> Release | None:
    """Return the target of an image: the release at which its tag points, unless that is quarantined."""
    query = (
        sa.select(Release)
        .join(PolledImage, PolledImage.release_id == Release.id)
        .where(PolledImage.image == image, Release.quarantined_at.is_(None))
    )
    return session.scalar(query)


def is_running(bot: Bot, release: Release) -> bool:
    """Return whether the bot runs this release, by any of the release's digests."""
    return bot.current_digest in release.digests


def find_update(session: Session, bot: Bot) -> Release | None:
    """Return the release to which this bot can be updated; None when it is up to date, pinned, held or not active."""
    if bot.phase is not BotPhase.ACTIVE or bot.release_channel is Channel.PINNED or bot.held_until:
        return None
    release = find_target(session, bot.image)
    return None if release is None or is_running(bot, release) else release


def quarantine(session: Session, release: Release, reason: str, now: datetime, *, actor: User | None) -> None:
    """Quarantine a release: no rollout of it starts, on any channel, until an operator lifts the quarantine.

    The next tick of the orchestrator aborts open rollouts of the release. A second quarantine keeps the first reason.

    Args:
        session: the transaction.
        release: the release.
        reason: why, for other operators.
        now: the moment.
        actor: the operator; None when failures of a rollout caused the quarantine.

    Raises:
        InvalidError: the reason is empty.
    """
    if not reason.strip():
        raise InvalidError("Enter a reason. Other operators will read it.", "reason")
    session.refresh(release, with_for_update=True)
    if release.quarantined_at is not None:
        return
    release.quarantined_at = now
    release.quarantine_reason = reason.strip()
    _record_event(session, EventTag.RELEASE_QUARANTINED, release, reason.strip(), actor=actor)


def lift_quarantine(session: Session, release: Release, reason: str, now: datetime, *, actor: User | None) -> None:
    """Lift the quarantine of a release, so that rollouts of it may start again.

    Args:
        session: the transaction.
        release: the release.
        reason: why, for other operators.
        now: the moment.
        actor: the operator.

    Raises:
        InvalidError: the reason is empty.
        ConflictError: the release is not quarantined.
    """
    if not reason.strip():
        raise InvalidError("Enter a reason. Other operators will read it.", "reason")
    session.refresh(release, with_for_update=True)
    if release.quarantined_at is None:
        raise ConflictError(f"Release {release.version} is not quarantined.")
    release.quarantined_at = None
    release.quarantine_reason = None
    release.quarantine_lifted_at = now
    _record_event(session, EventTag.RELEASE_QUARANTINE_LIFTED, release, reason.strip(), actor=actor)


def list_newer(session: Session, release: Release) -> Sequence[Release]:
    """List later releases of the same repository that are not quarantined, oldest first."""
    query = sa.select(Release).where(
        Release.repository == release.repository,
        Release.first_seen_at > release.first_seen_at,
        Release.quarantined_at.is_(None),
    )
    return session.scalars(query.order_by(Release.first_seen_at)).all()


def require_allowed_image(allowlist: Allowlist, image: str) -> None:
    """Check that the allowlist admits an image.

    Raises:
        InvalidError: the allowlist does not admit the image; the message for operators names the setting.
    """
    try:
        allowlist.require(parse_reference(image))
    except ImageNotAllowed as error:
        raise InvalidError(faults.IMAGE_NOT_ALLOWED, "image", for_operators=str(error)) from None


def _record_event(session: Session, tag: EventTag, release: Release, reason: str, *, actor: User | None) -> None:
    data = {"image": release.image, "digest": release.digest, "version": release.version, "reason": reason}
    events.record(session, tag, actor=actor, data=data)

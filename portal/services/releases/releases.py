"""Releases: which one a bot should run, which ones nobody may roll out, and whether an image may run at all."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Channel, EventTag, PolledImage, Release, User, utcnow
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services import events
from portal.services.errors import ConflictError, InvalidError, NotFoundError


def get_release(session: Session, release_id: str) -> Release:
    """Find a release by its id.

    Raises:
        NotFoundError: when there is none.
    """
    release = session.get(Release, release_id)
    if release is None:
        raise NotFoundError("There is no such release.")
    return release


def list_recent_releases(session: Session, limit: int = 50) -> Sequence[Release]:
    """List releases, the newest first."""
    return session.scalars(sa.select(Release).order_by(Release.first_seen_at.desc(), Release.id).limit(limit)).all()


def map_targets(session: Session) -> dict[str, Release]:
    """Map each polled image to the release its tag points at now; one that is quarantined is nobody's target."""
    query = sa.select(PolledImage.image, Release).join(PolledImage.release).where(Release.quarantined_at.is_(None))
    return dict(session.execute(query).all())


def find_target(session: Session, image: str) -> Release | None:
    """Tell which release bots of this image should run: what the tag points at now, unless that is quarantined."""
    query = (
        sa.select(Release)
        .join(PolledImage, PolledImage.release_id == Release.id)
        .where(PolledImage.image == image, Release.quarantined_at.is_(None))
    )
    return session.scalar(query)


def is_running(bot: Bot, release: Release) -> bool:
    """Whether the bot runs this release already, under whichever of its digests the engine knows it."""
    return bot.current_digest in release.digests


def find_update(session: Session, bot: Bot) -> Release | None:
    """Tell the release this bot should run and does not: the update badge. A pinned bot is never behind."""
    if bot.release_channel is Channel.PINNED:
        return None
    release = find_target(session, bot.image)
    return None if release is None or is_running(bot, release) else release


def quarantine(session: Session, release: Release, reason: str, actor: User | None) -> None:
    """Make sure that nobody rolls this release out, whatever the channel, until an operator lifts it.

    Open rollouts of it are aborted by the orchestrator's next look. Quarantining twice keeps the first reason.

    Args:
        session: the transaction.
        release: the bad one.
        reason: why, in words that operators and owners will read.
        actor: the operator; None when failures of a rollout brought it about.

    Raises:
        InvalidError: without a reason.
    """
    if not reason.strip():
        raise InvalidError("Say why this release is bad; people will read it.", "reason")
    session.refresh(release, with_for_update=True)
    if release.quarantined_at is not None:
        return
    release.quarantined_at = utcnow()
    release.quarantine_reason = reason.strip()
    _record(session, EventTag.RELEASE_QUARANTINED, release, reason.strip(), actor)


def lift_quarantine(session: Session, release: Release, reason: str, actor: User | None) -> None:
    """Allow a quarantined release again.

    Raises:
        InvalidError: without a reason.
        ConflictError: when it is not quarantined.
    """
    if not reason.strip():
        raise InvalidError("Say why this release may be rolled out again; people will read it.", "reason")
    session.refresh(release, with_for_update=True)
    if release.quarantined_at is None:
        raise ConflictError(f"Release {release.version} is not quarantined.")
    release.quarantined_at = None
    release.quarantine_reason = None
    release.quarantine_lifted_at = utcnow()
    _record(session, EventTag.RELEASE_QUARANTINE_LIFTED, release, reason.strip(), actor)


def list_newer(session: Session, release: Release) -> Sequence[Release]:
    """List the releases of the same repository that were first seen later, without those quarantined already."""
    query = sa.select(Release).where(
        Release.repository == release.repository,
        Release.first_seen_at > release.first_seen_at,
        Release.quarantined_at.is_(None),
    )
    return session.scalars(query.order_by(Release.first_seen_at)).all()


def require_allowed_image(allowlist: Allowlist, image: str) -> None:
    """Do nothing if images of this repository may run here.

    Raises:
        InvalidError: naming the setting that would admit it.
    """
    try:
        allowlist.require(parse_reference(image))
    except ImageNotAllowed as error:
        raise InvalidError(str(error), "image") from None


def _record(session: Session, tag: EventTag, release: Release, reason: str, actor: User | None) -> None:
    data = {"image": release.image, "digest": release.digest, "version": release.version, "reason": reason}
    events.record(session, tag, actor=actor, data=data)

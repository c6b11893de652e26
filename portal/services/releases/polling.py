"""The images that are polled: who is due, and what the answers of their registries mean."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import Bot, Channel, EventTag, PolledImage, Release, update_where
from portal.rules.references import InvalidReference, Reference, parse_reference
from portal.services import events
from portal.services.errors import InvalidError, NotFoundError

_INTERVALS = {
    Channel.CANARY: timedelta(minutes=5),
    Channel.STAGING: timedelta(minutes=15),
    Channel.STABLE: timedelta(minutes=30),
}
# Images that became due together drift apart; never later than the channel promises.
_JITTER = 0.1
_FAILED_LOOK_UP_SHOWN = timedelta(days=1)
"""How long an operator can read why a digest they pasted became no release."""


def schedule_due(session: Session, now: datetime, every: timedelta | None = None) -> list[str]:
    """List the images to be polled now, each distinct image once however many bots run it.

    Images that bots run and nobody polls yet become due; one whose fastest channel got faster becomes due
    earlier, unless its registry asked for patience. Digests that were looked up in vain a day ago are forgotten.

    Args:
        session: A writing transaction.
        now: The present.
        every: Overrides the interval of every channel but pinned.
    """
    _forget_failed_look_ups(session, now)
    rows = {row.image: row for row in session.scalars(sa.select(PolledImage))}
    for image, interval in _intervals(session, every).items():
        row = rows.get(image) or _row(session, image)
        if row.next_poll_at is None:
            row.next_poll_at = now
        elif not row.errors:
            row.next_poll_at = min(row.next_poll_at, now + interval)
    session.flush()
    is_due = sa.select(PolledImage.image).where(PolledImage.next_poll_at <= now)
    return list(session.scalars(is_due.order_by(PolledImage.next_poll_at)))


def check_now(session: Session, image: str, now: datetime) -> PolledImage:
    """Make an image due at once, whatever its channel; the caller enqueues the poll after the commit.

    Raises:
        InvalidError: if no image is named.
        NotFoundError: if no bot runs that image.
    """
    if not image:
        raise InvalidError("Name the image to ask about: registry/repository:tag.", "image")
    if session.scalar(sa.select(sa.exists().where(Bot.image == image))) is not True:
        raise NotFoundError(f"{image} is not polled: no bot runs it.")
    row = _row(session, image)
    row.next_poll_at = now
    session.flush()
    return row


def schedule_first_poll(session: Session, image: str, now: datetime) -> None:
    """Make an image that a bot has just begun to run due, unless it was polled before: then it keeps its turn."""
    row = _row(session, image)
    if row.last_checked_at is None:
        row.next_poll_at = now
    session.flush()


def request_digest(session: Session, text: str, now: datetime) -> PolledImage:
    """Take down a digest that an operator pasted, to be looked up once; it becomes a release if it exists.

    The caller has checked the allowlist; the poller checks it again.

    Raises:
        InvalidError: if ``text`` is not ``registry/repository@sha256:…``.
    """
    try:
        reference = parse_reference(text.strip())
    except InvalidReference as error:
        raise InvalidError(str(error), "digest") from error
    if reference.digest is None:
        raise InvalidError("Paste a reference with a digest: registry/repository@sha256:…", "digest")
    row = _row(session, reference.pinned(reference.digest))
    row.next_poll_at = now
    session.flush()
    return row


def claim_poll(session: Session, image: str, now: datetime, every: timedelta | None = None) -> PolledImage | None:
    """Take on the poll of a due image by setting when it is due next; None if another took it, or it is not due.

    A poller that dies after this costs one interval, not the image.
    """
    interval = _intervals(session, every).get(image)
    later = None if interval is None else now + interval * (1 - _JITTER * random.random())  # noqa: S311 - no secret
    is_due = (PolledImage.image == image, PolledImage.next_poll_at <= now)
    claimed = update_where(session, PolledImage, *is_due, next_poll_at=later)
    return _find_row(session, image) if claimed else None


def find_release(session: Session, repository: str, digest: str) -> Release | None:
    """The release a digest stands for, in the wrapping it was pinned by or in a later one."""
    releases = session.scalars(sa.select(Release).where(Release.repository == repository))
    return next((known for known in releases if digest in {known.digest, *known.alias_digests}), None)


def record_release(
    session: Session, reference: Reference, digest: str, platform_digests: Mapping[str, str], now: datetime
) -> Release:
    """Return the release of a digest; one not seen before becomes a release and an event.

    An index that was pushed again around the same manifests is not a new release: its digest is kept as
    another name of the one that is known.

    Args:
        session: A writing transaction.
        reference: Under which it was seen.
        digest: Of the index, or of the manifest where there is no index.
        platform_digests: The manifests of the nodes' platforms in an index; empty for a single manifest.
        now: The present.
    """
    known = find_release(session, reference.name, digest)
    if known is not None:
        return known
    same = _same_manifests(session, reference.name, digest, platform_digests)
    if same is not None:
        same.alias_digests = [*same.alias_digests, digest]
        session.flush()
        return same
    release = Release(
        repository=reference.name,
        image=str(reference),
        digest=digest,
        platform_digests=dict(platform_digests),
        first_seen_at=now,
    )
    try:
        with session.begin_nested():
            session.add(release)
    except IntegrityError:  # another tag of the same push was polled at the same moment
        return session.scalars(sa.select(Release).filter_by(repository=reference.name, digest=digest)).one()
    data = {"release": release.id, "image": str(reference), "digest": digest}
    events.record(session, EventTag.RELEASE_DETECTED, data=data)
    return release


def record_answer(session: Session, image: str, digest: str, release: Release, now: datetime) -> None:
    """Write down what an image points at, as seen by a poll begun at ``now``.

    An answer older than one already written down is dropped, for the tag may have moved in between.
    """
    row = _find_row(session, image)
    if row is None or (row.last_checked_at is not None and row.last_checked_at > now):
        return
    row.last_digest, row.release_id, row.last_checked_at = digest, release.id, now
    row.last_error, row.last_error_at, row.errors = None, None, 0
    session.flush()


def record_failure(session: Session, image: str, error: str, now: datetime, *, vanished: bool = False) -> None:
    """Write down a failed poll; the last good digest stays what the image points at.

    Args:
        session: A writing transaction.
        image: That was asked for.
        error: For people, without secrets.
        now: When the poll began.
        vanished: True if the registry answered that there is no such image. Where there was one before,
            that is an alarm, raised once. A digest that was looked up once is told of whatever the trouble,
            for nobody asks again.
    """
    row = _find_row(session, image)
    if row is None:
        return
    if row.asked_once:
        events.record(session, EventTag.IMAGE_LOOK_UP_FAILED, data={"image": image, "error": error})
    elif vanished and row.last_digest is not None and row.last_error != error:
        events.record(session, EventTag.IMAGE_VANISHED, data={"image": image, "last_digest": row.last_digest})
    row.last_error, row.last_error_at, row.errors = error, now, row.errors + 1
    session.flush()


def postpone_registry(session: Session, image: str, error: str, now: datetime, until: datetime) -> None:
    """Leave the registry of an image alone until then: none of its images is due before, and each says why."""
    registry = parse_reference(image).registry
    for row in session.scalars(sa.select(PolledImage)):
        waiting = row.image == image or row.next_poll_at is not None
        if waiting and parse_reference(row.image).registry == registry:
            row.next_poll_at = max(row.next_poll_at or until, until)
            row.last_error, row.last_error_at, row.errors = error, now, row.errors + 1
    session.flush()


def _forget_failed_look_ups(session: Session, now: datetime) -> None:
    session.execute(
        sa.delete(PolledImage).where(
            PolledImage.asked_once,
            PolledImage.errors > 0,
            PolledImage.next_poll_at.is_(None),
            PolledImage.last_error_at <= now - _FAILED_LOOK_UP_SHOWN,
        )
    )


def _intervals(session: Session, every: timedelta | None) -> dict[str, timedelta]:
    """How often each image is polled: as its fastest channel asks; images of pinned bots only are left out."""
    fastest: dict[str, timedelta] = {}
    for image, channel in session.execute(sa.select(Bot.image, Bot.release_channel).distinct()):
        if channel in _INTERVALS:
            interval = every or _INTERVALS[channel]
            fastest[image] = min(fastest.get(image, interval), interval)
    return fastest


def _same_manifests(
    session: Session, repository: str, digest: str, platform_digests: Mapping[str, str]
) -> Release | None:
    """The newest release that means the same to every platform, wrapped in another index or in none."""
    releases = session.scalars(
        sa.select(Release).where(Release.repository == repository).order_by(Release.first_seen_at.desc())
    )
    for known in releases:
        platforms = platform_digests or known.platform_digests
        if platforms and all(
            _manifest(digest, platform_digests, platform) == _manifest(known.digest, known.platform_digests, platform)
            for platform in platforms
        ):
            return known
    return None


def _manifest(digest: str, platform_digests: Mapping[str, str], platform: str) -> str | None:
    return platform_digests.get(platform) if platform_digests else digest


def _find_row(session: Session, image: str) -> PolledImage | None:
    return session.scalars(sa.select(PolledImage).where(PolledImage.image == image)).one_or_none()


def _row(session: Session, image: str) -> PolledImage:
    row = _find_row(session, image)
    if row is not None:
        return row
    row = PolledImage(image=image)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:  # somebody else was a moment faster
        return session.scalars(sa.select(PolledImage).where(PolledImage.image == image)).one()
    return row

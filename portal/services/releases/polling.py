"""Polling of images: due images, claims, results, new releases. Used by the poller, views and commands."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, Channel, EventTag, PolledImage, Release, update_where
from portal.rules.references import InvalidReference, Reference, parse_reference
from portal.services import events, leases
from portal.services.errors import InvalidError, NotFoundError
from portal.services.leases import HeldLease
from portal.services.releases import registry_leases

_INTERVALS = {
    Channel.CANARY: timedelta(minutes=5),
    Channel.STAGING: timedelta(minutes=15),
    Channel.STABLE: timedelta(minutes=30),
}
# Spreads images that became due together. A poll is never later than the interval of the channel.
_JITTER = 0.1
_KEEP_FAILED_LOOK_UPS = timedelta(days=1)
"""How long the page shows the error of a pasted digest."""


@dataclass(frozen=True)
class ClaimedPoll:
    """The right to poll an image, until `end_poll`.

    Attributes:
        polled: the row of the image after the claim.
        lease: the lease on the registry of the image.
    """

    polled: PolledImage
    lease: HeldLease


def schedule_due(session: Session, now: datetime, every: timedelta | None = None) -> list[str]:
    """Schedule all polls and list the images to poll now, as `list_due` does.

    An image that was never polled becomes due. An image whose fastest channel got faster becomes due earlier, unless
    its last poll failed. Pasted digests that failed a day ago are deleted.

    Args:
        session: a writing transaction.
        now: the moment.
        every: replaces the interval of every channel except `pinned`.
    """
    _delete_failed_look_ups(session, now)
    rows = {row.image: row for row in session.scalars(sa.select(PolledImage))}
    for image, interval in _intervals(session, every).items():
        row = rows.get(image) or _find_or_create_row(session, image)
        if row.next_poll_at is None:
            row.next_poll_at = now
        elif not row.errors:
            row.next_poll_at = min(row.next_poll_at, now + interval)
    session.flush()
    return list_due(session, now)


def list_due(session: Session, now: datetime) -> list[str]:
    """List the images to poll now: of each registry that is not being polled, the one that is due the longest."""
    due = sa.select(PolledImage.image).where(PolledImage.next_poll_at <= now)
    images = session.scalars(due.order_by(PolledImage.next_poll_at, PolledImage.image)).all()
    return registry_leases.select_first_per_free_registry(session, images)


def select_slow(session: Session, images: Iterable[str]) -> set[str]:
    """Select the images whose registry was too slow for a quick poll."""
    marked = session.scalars(sa.select(PolledImage.image).where(PolledImage.is_slow))
    slow = {parse_reference(image).registry for image in marked}
    return {image for image in images if parse_reference(image).registry in slow}


def find_following(session: Session, image: str, now: datetime, *, slow: bool = False) -> str | None:
    """Find the image to poll after `image`: the one of the same registry that is due the longest.

    Args:
        session: a transaction.
        image: the image that was polled.
        now: the moment.
        slow: whether the caller polls slow registries. Return None for a registry of the other kind.
    """
    if _find_row(session, image) is None:  # the image comes from Redis
        return None
    if slow is not bool(select_slow(session, [image])):
        return None
    registry = parse_reference(image).registry
    return next((due for due in list_due(session, now) if parse_reference(due).registry == registry), None)


def check_now(session: Session, image: str, now: datetime) -> PolledImage:
    """Make an image due now on any channel. The caller enqueues the poll after the commit.

    Raises:
        InvalidError: `image` is empty.
        NotFoundError: no bot follows the image.
    """
    if not image:
        raise InvalidError("Enter the image to check: registry/repository:tag.", "image")
    if session.scalar(sa.select(sa.exists().where(Bot.image == image, Bot.phase != BotPhase.REMOVED))) is not True:
        raise NotFoundError(f"{image} is not polled, because no bot runs it.")
    row = _find_or_create_row(session, image)
    row.next_poll_at = now
    session.flush()
    return row


def schedule_first_poll(session: Session, image: str, now: datetime) -> None:
    """Make the image of a new bot due now, unless the image was polled before."""
    row = _find_or_create_row(session, image)
    if row.last_checked_at is None:
        row.next_poll_at = now
    session.flush()


def request_digest(session: Session, text: str, now: datetime) -> PolledImage:
    """Schedule one poll of a digest that an operator pasted. An existing digest becomes a release.

    The caller has checked the allowlist; the poller checks it again.

    Raises:
        InvalidError: `text` is not of the form `registry/repository@sha256:…`.
    """
    try:
        reference = parse_reference(text.strip())
    except InvalidReference as error:
        raise InvalidError(str(error), "digest") from error
    if reference.digest is None:
        raise InvalidError("Paste a reference with a digest: registry/repository@sha256:…", "digest")
    row = _find_or_create_row(session, reference.pinned(reference.digest))
    row.next_poll_at = now
    session.flush()
    return row


def claim_poll(
    session: Session, image: str, now: datetime, every: timedelta | None = None, *, slow: bool = False
) -> ClaimedPoll | None:
    """Claim the poll of a due image: schedule its next poll, and take the lease on its registry until `end_poll`.

    Return None when the image is not due, or while another poll of its registry runs. When a poller dies after the
    claim, the image is polled again after one interval, and other images of the registry when the lease expires.

    Args:
        session: a writing transaction.
        image: the image.
        now: the moment.
        every: replaces the interval of every channel except `pinned`.
        slow: whether the caller polls slow registries. Return None for a registry of the other kind.
    """
    is_due = (PolledImage.image == image, PolledImage.next_poll_at <= now)
    if session.scalar(sa.select(PolledImage.id).where(*is_due)) is None:
        return None
    if slow is not bool(select_slow(session, [image])):
        return None
    lease = registry_leases.acquire(session, image)
    if lease is None:
        return None
    interval = _intervals(session, every).get(image)
    next_poll_at = None if interval is None else now + interval * (1 - _JITTER * random.random())  # noqa: S311 - no secret
    if not update_where(session, PolledImage, *is_due, next_poll_at=next_poll_at):
        leases.release(session, lease)
        return None
    return ClaimedPoll(_get_row(session, image), lease)


def end_poll(session: Session, claimed: ClaimedPoll) -> None:
    """Release the lease on the registry, unless it has expired and another poll has taken it."""
    leases.release(session, claimed.lease)


def find_release(session: Session, repository: str, digest: str) -> Release | None:
    """Find the release of a digest, by its own digest or by a later index of the same manifests."""
    releases = session.scalars(sa.select(Release).where(Release.repository == repository))
    return next((known for known in releases if digest in {known.digest, *known.alias_digests}), None)


def record_release(
    session: Session, reference: Reference, digest: str, platform_digests: Mapping[str, str], now: datetime
) -> Release:
    """Return the release of a digest. A new digest becomes a release and an event.

    A new index of known manifests is not a new release. Its digest becomes an alias of the known release.

    Args:
        session: a writing transaction.
        reference: the reference under which the digest was seen.
        digest: digest of the index, or of the manifest where there is no index.
        platform_digests: digests of the manifests in an index, by the platforms of the nodes; empty without an index.
        now: the moment.
    """
    known = find_release(session, reference.name, digest)
    if known is not None:
        return known
    same = _find_same_manifests(session, reference.name, digest, platform_digests)
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
    except IntegrityError:  # another poll of the same push was faster
        return session.scalars(sa.select(Release).filter_by(repository=reference.name, digest=digest)).one()
    data = {"release": release.id, "image": str(reference), "digest": digest}
    events.record(session, EventTag.RELEASE_DETECTED, data=data)
    return release


def record_answer(session: Session, image: str, digest: str, release: Release, now: datetime) -> None:
    """Record the release at which an image points, as seen by a poll that started at `now`.

    A result that is older than the recorded one is dropped, because the tag may have moved in between.
    """
    row = _find_row(session, image)
    if row is None or (row.last_checked_at is not None and row.last_checked_at > now):
        return
    row.last_digest, row.release_id, row.last_checked_at = digest, release.id, now
    row.last_error, row.last_error_at, row.errors = None, None, 0
    session.flush()


def record_failure(session: Session, image: str, error: str, now: datetime, *, vanished: bool = False) -> None:
    """Record a failed poll. The image still points at the digest of the last successful poll.

    Args:
        session: a writing transaction.
        image: the image.
        error: the error, for operators, without secrets.
        now: when the poll started.
        vanished: the registry answered that the image does not exist. An image that existed before raises an alarm
            event once. A pasted digest raises an event on every error, because it is not polled again.
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


def mark_slow(session: Session, image: str, now: datetime) -> None:
    """Record that a registry was too slow for a quick poll, and make the image due for a slow poll."""
    session.execute(sa.update(PolledImage).where(PolledImage.image == image).values(is_slow=True, next_poll_at=now))


def mark_quick(session: Session, image: str) -> None:
    """Record that the registry of an image was quick, so that its next polls are quick polls."""
    registry = parse_reference(image).registry
    for row in session.scalars(sa.select(PolledImage).where(PolledImage.is_slow)):
        if parse_reference(row.image).registry == registry:
            row.is_slow = False
    session.flush()


def postpone_registry(
    session: Session, image: str, error: str, now: datetime, until: datetime, *, repeat: bool
) -> None:
    """Postpone all polls of the registry of an image, and record the error for each postponed image.

    Args:
        session: a writing transaction.
        image: the image whose poll failed.
        error: the error, for operators, without secrets.
        now: when the poll started.
        until: the polls begin at this moment or later.
        repeat: whether `image` is polled again even if only one poll was requested.
    """
    registry = parse_reference(image).registry
    for row in session.scalars(sa.select(PolledImage)):
        waiting = row.next_poll_at is not None or (repeat and row.image == image)
        if waiting and parse_reference(row.image).registry == registry:
            row.next_poll_at = max(row.next_poll_at or until, until)
            row.last_error, row.last_error_at, row.errors = error, now, row.errors + 1
    session.flush()


def _delete_failed_look_ups(session: Session, now: datetime) -> None:
    session.execute(
        sa.delete(PolledImage).where(
            PolledImage.asked_once,
            PolledImage.errors > 0,
            PolledImage.next_poll_at.is_(None),
            PolledImage.last_error_at <= now - _KEEP_FAILED_LOOK_UPS,
        )
    )


def _intervals(session: Session, every: timedelta | None) -> dict[str, timedelta]:
    """Return the polling interval of each image, that of its fastest channel, without images of only pinned bots."""
    fastest: dict[str, timedelta] = {}
    for image, channel in session.execute(sa.select(Bot.image, Bot.release_channel).distinct()):
        if channel in _INTERVALS:
            interval = every or _INTERVALS[channel]
            fastest[image] = min(fastest.get(image, interval), interval)
    return fastest


def _find_same_manifests(
    session: Session, repository: str, digest: str, platform_digests: Mapping[str, str]
) -> Release | None:
    """Find the newest release with the same manifest for every platform, in another index or without one."""
    releases = session.scalars(
        sa.select(Release).where(Release.repository == repository).order_by(Release.first_seen_at.desc())
    )
    for known in releases:
        platforms = platform_digests or known.platform_digests
        if platforms and all(
            _manifest_digest(digest, platform_digests, platform)
            == _manifest_digest(known.digest, known.platform_digests, platform)
            for platform in platforms
        ):
            return known
    return None


def _manifest_digest(digest: str, platform_digests: Mapping[str, str], platform: str) -> str | None:
    return platform_digests.get(platform) if platform_digests else digest


def _find_row(session: Session, image: str) -> PolledImage | None:
    return session.scalars(sa.select(PolledImage).where(PolledImage.image == image)).one_or_none()


def _get_row(session: Session, image: str) -> PolledImage:
    return session.scalars(sa.select(PolledImage).where(PolledImage.image == image)).one()


def _find_or_create_row(session: Session, image: str) -> PolledImage:
    row = _find_row(session, image)
    if row is not None:
        return row
    row = PolledImage(image=image)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:  # another process was faster
        return _get_row(session, image)
    return row

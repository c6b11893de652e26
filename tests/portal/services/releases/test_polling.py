"""Polling of images: due moments, claims, pasted digests, results."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from portal.database import Database, database_now
from portal.models import Bot, Channel, Lease, PolledImage
from portal.rules.references import parse_reference
from portal.services.errors import InvalidError, NotFoundError
from portal.services.releases import polling
from portal.services.releases.polling import ClaimedPoll
from tests import factories

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMAGE = "ghcr.io/acme/bot:managed"
DIGEST = "sha256:" + "a" * 64

AddBot = Callable[[str, Channel], None]


@pytest.fixture
def add_bot(database: Database) -> AddBot:
    """Return a function that adds a bot of an image and a channel."""
    with database.transaction() as session:
        node = factories.node(session)
        org = factories.org(session, factories.user(session))

    def add(image: str, channel: Channel) -> None:
        with database.transaction() as session:
            factories.bot(session, org, node, image=image, release_channel=channel)

    return add


def list_due(database: Database, now: datetime) -> list[str]:
    with database.transaction() as session:
        return polling.schedule_due(session, now)


def poll(database: Database, now: datetime, every: timedelta | None = None) -> timedelta | None:
    """Claim the image as a poller does, and return the time until it is due again."""
    with database.transaction() as session:
        polling.schedule_due(session, now)
        claimed = polling.claim_poll(session, IMAGE, now, every)
        assert claimed is not None
        polling.end_poll(session, claimed)
        next_poll_at = claimed.polled.next_poll_at
        return None if next_poll_at is None else next_poll_at - now


def claim(database: Database, image: str) -> ClaimedPoll | None:
    """Claim an image in a separate transaction."""
    with database.transaction() as session:
        return polling.claim_poll(session, image, NOW)


def let_leases_expire(database: Database) -> None:
    """Set all leases to the moment at which they expire."""
    with database.transaction() as session:
        session.execute(sa.update(Lease).values(until=database_now(session)))


def test_an_image_of_many_bots_is_due_once(database: Database, add_bot: AddBot) -> None:
    for channel in (Channel.STABLE, Channel.STABLE, Channel.CANARY):
        add_bot(IMAGE, channel)

    assert list_due(database, NOW) == [IMAGE]


@pytest.mark.parametrize(
    ("channels", "minutes"),
    [
        ([Channel.STABLE], 30),
        ([Channel.STABLE, Channel.STAGING], 15),
        ([Channel.CANARY, Channel.STABLE, Channel.PINNED], 5),
    ],
)
def test_the_fastest_channel_sets_the_interval(
    database: Database, add_bot: AddBot, channels: list[Channel], minutes: int
) -> None:
    for channel in channels:
        add_bot(IMAGE, channel)

    wait = poll(database, NOW)

    assert wait is not None
    assert timedelta(minutes=minutes * 0.9) <= wait <= timedelta(minutes=minutes)
    assert list_due(database, NOW + timedelta(minutes=minutes * 0.89)) == []
    assert list_due(database, NOW + timedelta(minutes=minutes)) == [IMAGE]


def test_configured_interval_replaces_channel_intervals(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.STABLE)

    wait = poll(database, NOW, timedelta(seconds=10))

    assert wait is not None
    assert wait <= timedelta(seconds=10)


def test_an_image_of_only_pinned_bots_is_not_due(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.PINNED)

    assert list_due(database, NOW + timedelta(days=365)) == []


def test_an_image_whose_bots_were_all_pinned_stops_being_due(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.STABLE)
    list_due(database, NOW)
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(release_channel=Channel.PINNED))

    assert poll(database, NOW) is None
    assert list_due(database, NOW + timedelta(days=365)) == []


def test_a_faster_channel_makes_the_next_poll_earlier(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.STABLE)
    poll(database, NOW)
    add_bot(IMAGE, Channel.CANARY)

    assert list_due(database, NOW) == []
    assert list_due(database, NOW + timedelta(minutes=5)) == [IMAGE]


def test_an_image_is_claimed_by_one_poller(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.STABLE)
    poll(database, NOW)

    with database.transaction() as session:
        assert polling.claim_poll(session, IMAGE, NOW) is None


def test_an_image_is_not_due_while_its_poll_runs(database: Database, add_bot: AddBot) -> None:
    """A poll of a slow registry may run when an operator requests a check, or when the interval is over."""
    add_bot(IMAGE, Channel.STABLE)
    list_due(database, NOW)
    with database.transaction() as session:
        running = polling.claim_poll(session, IMAGE, NOW)
        assert running is not None
        polling.check_now(session, IMAGE, NOW)

    with database.transaction() as session:
        assert polling.schedule_due(session, NOW) == []
        assert polling.claim_poll(session, IMAGE, NOW) is None

    with database.transaction() as session:
        polling.end_poll(session, running)
    assert list_due(database, NOW) == [IMAGE]
    assert poll(database, NOW) is not None


def test_one_poll_per_registry_runs_and_the_longest_due_image_is_next(database: Database, add_bot: AddBot) -> None:
    other = "other.example/acme/bot:managed"
    siblings = [f"ghcr.io/acme/sibling-{number}:managed" for number in range(3)]
    for image in (IMAGE, other, *siblings):
        add_bot(image, Channel.CANARY)
    list_due(database, NOW)
    with database.transaction() as session:
        for overdue, image in enumerate([*siblings, IMAGE]):
            moment = NOW - timedelta(minutes=overdue)
            session.execute(sa.update(PolledImage).where(PolledImage.image == image).values(next_poll_at=moment))
    polled: list[str] = []
    while due := list_due(database, NOW):
        image = next(image for image in due if image != other)
        running = claim(database, image)
        assert running is not None
        assert list_due(database, NOW) == [other]
        assert not any(claim(database, sibling) for sibling in (IMAGE, *siblings))
        with database.transaction() as session:
            polling.end_poll(session, running)
            following = polling.find_following(session, image, NOW)
        polled.append(image)
        if following is None:
            break
        assert list_due(database, NOW) == [following, other]

    assert polled == [IMAGE, *siblings[::-1]]
    assert claim(database, other) is not None


def test_of_parallel_claims_of_one_registry_one_succeeds(database: Database, add_bot: AddBot) -> None:
    images = [f"ghcr.io/acme/bot-{number}:managed" for number in range(8)]
    for image in images:
        add_bot(image, Channel.CANARY)
    list_due(database, NOW)
    begin = Barrier(len(images))

    def claim_together(image: str) -> ClaimedPoll | None:
        begin.wait()
        return claim(database, image)

    with ThreadPoolExecutor(len(images)) as pool:
        claimed = [result for result in pool.map(claim_together, images) if result]

    assert len(claimed) == 1
    due = {claimed[0].polled.image}
    with database.transaction() as session:
        polling.end_poll(session, claimed[0])
    assert list_due(database, NOW)[0] in set(images) - due


def test_registry_is_polled_again_when_its_poller_died(database: Database, add_bot: AddBot) -> None:
    sibling = "ghcr.io/acme/sibling:managed"
    for image in (IMAGE, sibling):
        add_bot(image, Channel.CANARY)
    list_due(database, NOW)
    assert claim(database, IMAGE) is not None
    assert list_due(database, NOW) == []

    let_leases_expire(database)

    assert list_due(database, NOW) == [sibling]
    assert list_due(database, NOW + timedelta(minutes=5)) == [sibling]
    assert claim(database, sibling) is not None


def test_a_late_poller_does_not_end_the_poll_of_another(database: Database, add_bot: AddBot) -> None:
    sibling = "ghcr.io/acme/sibling:managed"
    for image in (IMAGE, sibling):
        add_bot(image, Channel.CANARY)
    list_due(database, NOW)
    late = claim(database, IMAGE)
    assert late is not None
    let_leases_expire(database)
    assert claim(database, sibling) is not None

    with database.transaction() as session:
        polling.end_poll(session, late)
        polling.check_now(session, IMAGE, NOW)

    assert claim(database, IMAGE) is None


def test_an_unknown_image_leaves_nothing_behind(database: Database) -> None:
    """Who can write to Redis chooses the images of messages."""
    for image in ("unknown.example/acme/bot:managed", "not an image"):
        assert claim(database, image) is None
        with database.transaction() as session:
            assert polling.find_following(session, image, NOW) is None
            assert session.scalars(sa.select(Lease)).all() == []


def test_check_now_makes_an_image_due_at_once(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.STABLE)
    poll(database, NOW)

    with database.transaction() as session:
        polling.check_now(session, IMAGE, NOW)

    assert list_due(database, NOW) == [IMAGE]


def test_an_image_of_pinned_bots_can_be_checked_once(database: Database, add_bot: AddBot) -> None:
    add_bot(IMAGE, Channel.PINNED)
    with database.transaction() as session:
        polling.check_now(session, IMAGE, NOW)

    assert poll(database, NOW) is None
    assert list_due(database, NOW + timedelta(days=1)) == []


def test_an_image_without_bots_cannot_be_checked(database: Database) -> None:
    with database.transaction() as session, pytest.raises(NotFoundError, match="no bot runs it"):
        polling.check_now(session, IMAGE, NOW)


def test_a_check_without_an_image_is_refused(database: Database) -> None:
    with database.transaction() as session, pytest.raises(InvalidError, match="Enter the image"):
        polling.check_now(session, "", NOW)


def test_a_pasted_digest_is_due_and_pasting_it_twice_changes_nothing(database: Database) -> None:
    for _ in range(2):
        with database.transaction() as session:
            polling.request_digest(session, f"{IMAGE}@{DIGEST}", NOW)

    assert list_due(database, NOW) == [f"ghcr.io/acme/bot@{DIGEST}"]


@pytest.mark.parametrize("text", ["", IMAGE, DIGEST, f"{IMAGE}@sha256:abc"])
def test_a_pasted_text_without_repository_and_digest_is_refused(database: Database, text: str) -> None:
    with database.transaction() as session, pytest.raises(InvalidError):
        polling.request_digest(session, text, NOW)


def test_a_result_older_than_the_recorded_one_is_dropped(database: Database) -> None:
    with database.transaction() as session:
        session.add(PolledImage(image=IMAGE))
        reference = parse_reference(IMAGE)
        new = polling.record_release(session, reference, DIGEST, {}, NOW)
        old = polling.record_release(session, reference, "sha256:" + "b" * 64, {}, NOW)
        polling.record_answer(session, IMAGE, new.digest, new, NOW + timedelta(seconds=1))
        polling.record_answer(session, IMAGE, old.digest, old, NOW)

        assert session.scalars(sa.select(PolledImage.release_id)).one() == new.id


def test_a_postponed_registry_stays_postponed(database: Database, add_bot: AddBot) -> None:
    sibling = "ghcr.io/acme/sibling:managed"
    for image in (IMAGE, sibling):
        add_bot(image, Channel.CANARY)
    poll(database, NOW)
    with database.transaction() as session:
        polling.postpone_registry(session, IMAGE, "limited", NOW, NOW + timedelta(hours=2), repeat=True)
        polling.postpone_registry(session, sibling, "limited", NOW, NOW + timedelta(minutes=1), repeat=True)

    for minutes in (1, 60, 119):
        assert list_due(database, NOW + timedelta(minutes=minutes)) == []
    assert len(list_due(database, NOW + timedelta(hours=2))) == 1

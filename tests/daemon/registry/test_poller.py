"""Polling a real registry into a real database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from uuid import uuid4

import pytest
import sqlalchemy as sa

from daemon import jobs
from daemon.context import Context
from daemon.registry.client import RegistryClient
from daemon.registry.poller import Poller
from portal.database import Database
from portal.models import Bot, Channel, Event, Node, Org, PolledImage, Release, User, utcnow
from portal.queue import connect
from portal.rules.allowlist import Allowlist
from portal.services.bots.overview import load_overview
from portal.services.releases import polling, release_list
from portal.settings import Settings
from tests.daemon.registry.pushing import Pusher
from tests.daemon.registry.scripted import Reply, scripted_server

pytestmark = pytest.mark.registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def pusher(registry: str) -> tuple[Pusher, str]:
    """Give a repository of this test alone and the image its bots run."""
    repository = f"acme/bot-{uuid4().hex[:8]}"
    return Pusher(registry, repository), f"{registry}/{repository}:managed"


@pytest.fixture
def add_bot(database: Database) -> Callable[..., None]:
    """Let another bot run an image."""
    with database.transaction() as session:
        session.add(Node(id="node", name="node", docker_url="unix:///x", snapshot_dir="/x"))
        session.add(User(id="owner", email="a@b.example", email_normalized="a@b.example", name="A"))
        session.flush()
        session.add(Org(id="org", slug="org", name="Org", owner_id="owner"))

    def add(image: str, channel: Channel = Channel.STABLE) -> None:
        with database.transaction() as session:
            session.add(
                Bot(
                    org_id="org",
                    node_id="node",
                    name="bot",
                    subdomain=uuid4().hex,
                    image=image,
                    release_channel=channel,
                )
            )

    return add


@pytest.fixture
def poller(database: Database, registry: str) -> Poller:
    """Give a poller that admits the registry."""
    return Poller(database, RegistryClient(), Allowlist.parse(["127.0.0.1", registry]))


def _poll(poller: Poller, image: str, now: datetime = NOW) -> str | None:
    with poller.database.transaction() as session:
        polling.schedule_due(session, now)
        polling.check_now(session, image, now)
    return poller.poll(image, now)


def _row(database: Database, image: str) -> PolledImage:
    with database.reading() as session:
        return session.scalars(sa.select(PolledImage).where(PolledImage.image == image)).one()


def _releases(database: Database, image: str) -> list[Release]:
    with database.reading() as session:
        repository = image.rpartition(":")[0]
        found = session.scalars(sa.select(Release).where(Release.repository == repository))
        return sorted(found, key=lambda release: release.first_seen_at)


def _events(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Event.tag).order_by(Event.id)))


def test_a_digest_not_seen_before_becomes_a_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    digest = push.image("managed", "one")

    release_id = _poll(poller, image)

    [release] = _releases(database, image)
    row = _row(database, image)
    assert (release.id, release.digest, release.image) == (release_id, digest, image)
    assert release.platform_digests == {}
    assert (row.release_id, row.last_digest, row.last_checked_at) == (release_id, digest, NOW)
    assert _events(database) == ["release.detected"]


def test_polling_again_changes_nothing_but_the_time(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    push.image("managed", "one")
    first = _poll(poller, image)

    assert _poll(poller, image, LATER) == first
    assert _row(database, image).last_checked_at == LATER
    assert len(_releases(database, image)) == 1
    assert _events(database) == ["release.detected"]


def test_a_tag_moved_forth_and_back_points_at_the_releases_it_had(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    pointed_at = []
    for hour, seed in enumerate(["one", "two", "one"]):
        push.image("managed", seed)
        _poll(poller, image, NOW + timedelta(hours=hour))
        pointed_at.append(_row(database, image).release_id)

    first, second = _releases(database, image)
    assert pointed_at == [first.id, second.id, first.id]


def test_an_index_pushed_again_around_the_same_manifest_is_no_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    amd64, arm64 = push.image("amd64", "amd64"), push.image("arm64", "arm64")
    first = push.index("managed", {"linux/amd64": amd64}, note="one")
    _poll(poller, image)
    again = push.index("managed", {"linux/amd64": amd64, "linux/arm64": arm64}, note="two")
    _poll(poller, image, LATER)

    [release] = _releases(database, image)
    assert release.digest == first
    assert release.digests == {first, again, amd64}
    assert _row(database, image).release_id == release.id
    assert _row(database, image).last_digest == again
    assert _events(database) == ["release.detected"]


def test_a_manifest_is_the_same_release_with_and_without_an_index(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    bare = push.image("managed", "one")
    _poll(poller, image)
    wrapped = push.index("managed", {"linux/amd64": bare})
    _poll(poller, image, LATER)
    push.image("managed", "one")
    _poll(poller, image, LATER + timedelta(hours=1))

    [release] = _releases(database, image)
    assert (release.digest, release.alias_digests) == (bare, [wrapped])


def test_an_index_with_another_manifest_for_our_platform_is_one(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    for hour, seed in enumerate(["one", "two"]):
        push.index("managed", {"linux/amd64": push.image("amd64", seed)})
        _poll(poller, image, NOW + timedelta(hours=hour))

    assert len(_releases(database, image)) == 2


def test_two_tags_of_one_push_share_a_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    other = image.replace(":managed", ":latest")
    for tag, reference in (("managed", image), ("latest", other)):
        push.image(tag, "one")
        add_bot(reference)

    assert _poll(poller, image) == _poll(poller, other)
    assert len(_releases(database, image)) == 1


def test_trouble_keeps_the_last_good_digest(database: Database, poller: Poller, add_bot: Callable[..., None]) -> None:
    answers = [Reply(200, {"Docker-Content-Digest": "sha256:" + "a" * 64})]
    with scripted_server(lambda _: answers[-1]) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)
        with database.transaction() as session:
            release = Release(repository=image[:-8], image=image, digest="sha256:" + "a" * 64)
            session.add(release)
            session.flush()
            session.add(PolledImage(image=image, last_digest=release.digest, release_id=release.id))
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]))
        _poll(poller, image)
        answers.append(Reply(500))
        for hour in (1, 2):
            assert _poll(poller, image, NOW + timedelta(hours=hour)) is None

        row = _row(database, image)
        assert (row.release_id, row.last_digest, row.last_checked_at) == (release.id, release.digest, NOW)
        assert (row.errors, row.last_error_at) == (2, NOW + timedelta(hours=2))
        assert "status 500" in str(row.last_error)

        answers.append(answers[0])
        _poll(poller, image, NOW + timedelta(hours=3))
        row = _row(database, image)
        assert (row.errors, row.last_error, row.last_error_at) == (0, None, None)


def test_a_tag_that_vanished_is_an_alarm_raised_once(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    digest = push.image("managed", "one")
    release_id = _poll(poller, image)
    push.delete(digest)
    for hour in (1, 2):
        _poll(poller, image, NOW + timedelta(hours=hour))

    assert _row(database, image).release_id == release_id
    assert _events(database) == ["release.detected", "image.vanished"]


def test_a_tag_that_never_was_is_an_error_and_no_alarm(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    _, image = pusher
    add_bot(image)

    assert _poll(poller, image) is None
    assert "has no" in str(_row(database, image).last_error)
    assert _events(database) == []


def test_a_registry_that_asks_for_patience_is_left_alone_with_all_its_images(
    database: Database, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    _, calm = pusher
    with scripted_server(lambda _: Reply(429, {"Retry-After": "7200"})) as server:
        busy, sibling = (f"{server.address}/acme/{name}:managed" for name in ("bot", "sibling"))
        for image in (busy, sibling, calm):
            add_bot(image)
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]))
        _poll(poller, busy)

    with database.transaction() as session:
        assert polling.schedule_due(session, NOW + timedelta(minutes=119)) == [calm]
        assert set(polling.schedule_due(session, NOW + timedelta(minutes=121))) == {busy, sibling, calm}


def test_credentials_that_cannot_be_used_are_written_down_as_the_reason(
    settings: Settings, database: Database, redis_url: str, add_bot: Callable[..., None], tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text("{")
    with scripted_server(lambda _: Reply(401, {"WWW-Authenticate": "Basic realm=x"})) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)
        with database.transaction() as session:
            polling.schedule_due(session, utcnow())
        settings = replace(settings, registry_config=config, fleet_image_allowlist=(server.address,))

        jobs.poll_image.__wrapped__(Context(settings, database, connect(redis_url)), image)  # type: ignore[attr-defined]

    assert "is not valid JSON" in str(_row(database, image).last_error)
    with database.transaction() as session:
        assert polling.schedule_due(session, utcnow()) == []


def test_an_image_that_is_no_longer_admitted_is_not_asked_for(
    database: Database, add_bot: Callable[..., None]
) -> None:
    with scripted_server(lambda _: Reply(500)) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)

        _poll(Poller(database, RegistryClient(), Allowlist.parse(["ghcr.io/acme"])), image)

        assert server.seen == []
    assert "FLEET_IMAGE_ALLOWLIST" in str(_row(database, image).last_error)


def test_a_pasted_digest_becomes_a_release_and_is_not_asked_for_again(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    old = push.image("managed", "old")
    push.image("managed", "new")
    with database.transaction() as session:
        asked = polling.request_digest(session, f" {image}@{old} ", NOW)

    release_id = poller.poll(asked.image, NOW)

    [release] = _releases(database, image)
    assert (release.id, release.digest) == (release_id, old)
    assert _row(database, asked.image).release_id == release_id
    assert _row(database, asked.image).next_poll_at is None


@pytest.mark.parametrize("status", [404, 500])
def test_a_pasted_digest_that_becomes_no_release_is_told_shown_a_while_and_forgotten(
    database: Database, status: int
) -> None:
    with scripted_server(lambda _: Reply(status)) as server:
        with database.transaction() as session:
            asked = polling.request_digest(session, f"{server.address}/acme/bot@sha256:{'0' * 64}", NOW).image
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]))
        assert poller.poll(asked, NOW) is None

    assert _events(database) == ["image.look_up_failed"]
    with database.transaction() as session:
        assert load_overview(session, NOW).calm
        assert polling.schedule_due(session, NOW + timedelta(hours=23)) == []
        [line] = release_list.list_images(session)
        assert (line.row.image, bool(line.row.last_error)) == (asked, True)
        polling.schedule_due(session, NOW + timedelta(hours=24))
        assert release_list.list_images(session) == []


def test_a_pasted_digest_that_became_a_release_is_not_forgotten(
    database: Database, poller: Poller, pusher: tuple[Pusher, str]
) -> None:
    push, image = pusher
    with database.transaction() as session:
        asked = polling.request_digest(session, f"{image}@{push.image('managed', 'one')}", NOW).image
    poller.poll(asked, NOW)
    with database.transaction() as session:
        assert polling.schedule_due(session, NOW + timedelta(days=30)) == []
    assert _row(database, asked).release_id


def test_two_pollers_at_once_make_one_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    tags = [f"tag{number}" for number in range(4)]
    references = [image.replace("managed", tag) for tag in tags]
    for tag, reference in zip(tags, references, strict=True):
        push.image(tag, "one")
        add_bot(reference)
    with database.transaction() as session:
        assert sorted(polling.schedule_due(session, NOW)) == references
    barrier = Barrier(8)
    found: list[str | None] = []

    def poll(reference: str) -> None:
        one = Poller(database, RegistryClient(), poller.allowlist)
        barrier.wait()
        found.append(one.poll(reference, NOW))

    threads = [Thread(target=poll, args=(reference,)) for reference in references * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [release] = _releases(database, image)
    assert sorted(map(str, found)) == sorted(["None"] * 4 + [release.id] * 4)
    assert _events(database) == ["release.detected"]

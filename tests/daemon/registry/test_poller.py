"""The poller with a real registry and a real database."""

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
from daemon.registry import changelog_job
from daemon.registry.client import DEADLINE_SECONDS, RegistryClient
from daemon.registry.poller import Poller
from portal.database import Database
from portal.models import Event, PolledImage, Release, utcnow
from portal.queue import connect
from portal.rules.allowlist import Allowlist
from portal.services.bots.overview import load_overview
from portal.services.releases import changelogs, polling, registry_leases, release_list
from portal.settings import Settings
from tests import factories
from tests.daemon.registry.pushing import Pusher
from tests.daemon.registry.scripted import Reply, Request, scripted_server
from tests.support.slow_peers import FILLER, Answer, slow_server

pytestmark = pytest.mark.registry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def pusher(registry: str) -> tuple[Pusher, str]:
    """Return a pusher to a new repository, and the image that its bots run."""
    repository = f"acme/bot-{uuid4().hex[:8]}"
    return Pusher(registry, repository), f"{registry}/{repository}:managed"


@pytest.fixture
def add_bot(database: Database) -> Callable[..., None]:
    """Return a function that adds a bot which runs an image."""
    with database.transaction() as session:
        node = factories.node(session)
        org = factories.org(session, factories.user(session))

    def add(image: str) -> None:
        with database.transaction() as session:
            factories.bot(session, org, node, image=image)

    return add


@pytest.fixture
def poller(database: Database, registry: str) -> Poller:
    """Return a poller whose allowlist contains the registry."""
    return Poller(database, RegistryClient(), Allowlist.parse(["127.0.0.1", registry]))


def _poll(poller: Poller, image: str, now: datetime = NOW) -> str | None:
    with poller.database.transaction() as session:
        polling.schedule_due(session, now)
        polling.check_now(session, image, now)
    return poller.poll(image, now)


def _poll_slow_registry(database: Database, address: str, image: str) -> None:
    """Poll an image as a quick one, which marks its registry as slow, then as one of the slow ones."""
    for slow in (False, True):
        client = RegistryClient(deadline=0.3)
        with database.transaction() as session:
            polling.schedule_due(session, NOW)
        assert Poller(database, client, Allowlist.parse([address]), slow=slow).poll(image, NOW) is None


def _load_image(database: Database, image: str) -> PolledImage:
    with database.reading() as session:
        return session.scalars(sa.select(PolledImage).where(PolledImage.image == image)).one()


def _load_releases(database: Database, image: str) -> list[Release]:
    with database.reading() as session:
        repository = image.rpartition(":")[0]
        found = session.scalars(sa.select(Release).where(Release.repository == repository))
        return sorted(found, key=lambda release: release.first_seen_at)


def _load_event_tags(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Event.tag).order_by(Event.id)))


def test_new_digest_becomes_a_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    digest = push.image("managed", "one")

    release_id = _poll(poller, image)

    [release] = _load_releases(database, image)
    row = _load_image(database, image)
    assert (release.id, release.digest, release.image) == (release_id, digest, image)
    assert release.platform_digests == {}
    assert (row.release_id, row.last_digest, row.last_checked_at) == (release_id, digest, NOW)
    assert _load_event_tags(database) == ["release.detected"]


def test_polling_again_updates_only_the_time_of_the_check(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    push.image("managed", "one")
    first = _poll(poller, image)

    assert _poll(poller, image, LATER) == first
    assert _load_image(database, image).last_checked_at == LATER
    assert len(_load_releases(database, image)) == 1
    assert _load_event_tags(database) == ["release.detected"]


def test_tag_moved_back_points_at_its_earlier_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    pointed_at = []
    for hour, seed in enumerate(["one", "two", "one"]):
        push.image("managed", seed)
        _poll(poller, image, NOW + timedelta(hours=hour))
        pointed_at.append(_load_image(database, image).release_id)

    first, second = _load_releases(database, image)
    assert pointed_at == [first.id, second.id, first.id]


def test_new_index_of_the_same_manifest_is_not_a_new_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    amd64, arm64 = push.image("amd64", "amd64"), push.image("arm64", "arm64")
    first = push.index("managed", {"linux/amd64": amd64}, note="one")
    _poll(poller, image)
    again = push.index("managed", {"linux/amd64": amd64, "linux/arm64": arm64}, note="two")
    _poll(poller, image, LATER)

    [release] = _load_releases(database, image)
    assert release.digest == first
    assert release.digests == {first, again, amd64}
    assert _load_image(database, image).release_id == release.id
    assert _load_image(database, image).last_digest == again
    assert _load_event_tags(database) == ["release.detected"]


def test_manifest_is_the_same_release_with_and_without_an_index(
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

    [release] = _load_releases(database, image)
    assert (release.digest, release.alias_digests) == (bare, [wrapped])


def test_index_with_a_new_manifest_for_a_node_platform_is_a_new_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    for hour, seed in enumerate(["one", "two"]):
        push.index("managed", {"linux/amd64": push.image("amd64", seed)})
        _poll(poller, image, NOW + timedelta(hours=hour))

    assert len(_load_releases(database, image)) == 2


def test_two_tags_of_one_digest_share_a_release(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    other = image.replace(":managed", ":latest")
    for tag, reference in (("managed", image), ("latest", other)):
        push.image(tag, "one")
        add_bot(reference)

    assert _poll(poller, image) == _poll(poller, other)
    assert len(_load_releases(database, image)) == 1


def test_registry_error_keeps_the_last_digest(
    database: Database, poller: Poller, add_bot: Callable[..., None]
) -> None:
    replies = [Reply(200, {"Docker-Content-Digest": "sha256:" + "a" * 64})]
    with scripted_server(lambda _: replies[-1]) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)
        with database.transaction() as session:
            release = Release(repository=image[:-8], image=image, digest="sha256:" + "a" * 64)
            session.add(release)
            session.flush()
            session.add(PolledImage(image=image, last_digest=release.digest, release_id=release.id))
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]))
        _poll(poller, image)
        replies.append(Reply(500))
        for hour in (1, 2):
            assert _poll(poller, image, NOW + timedelta(hours=hour)) is None

        row = _load_image(database, image)
        assert (row.release_id, row.last_digest, row.last_checked_at) == (release.id, release.digest, NOW)
        assert (row.errors, row.last_error_at) == (2, NOW + timedelta(hours=2))
        assert "status 500" in str(row.last_error)

        replies.append(replies[0])
        _poll(poller, image, NOW + timedelta(hours=3))
        row = _load_image(database, image)
        assert (row.errors, row.last_error, row.last_error_at) == (0, None, None)


@pytest.mark.parametrize("platform", ['"linux"', '{"os": ["linux"]}', '{"os": "\\u0000", "architecture": "\\ud800"}'])
def test_index_with_wrong_types_is_an_error_of_its_image(
    database: Database, add_bot: Callable[..., None], platform: str
) -> None:
    entry = f'{{"digest": "sha256:{"a" * 64}", "platform": {platform}}}'
    body = f'{{"schemaVersion": 2, "manifests": [{entry}]}}'.encode()
    with scripted_server(lambda _: Reply(200, body=body)) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)
        assert _poll(Poller(database, RegistryClient(), Allowlist.parse([server.address])), image) is None

    row = _load_image(database, image)
    assert (row.errors, row.last_error_at) == (1, NOW)
    assert row.last_error


def test_unexpected_error_is_an_error_of_its_image(
    database: Database, add_bot: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RecursionError("secret")

    monkeypatch.setattr(RegistryClient, "get_current_digest", fail)
    add_bot("registry.example/acme/bot:managed")
    _poll(
        Poller(database, RegistryClient(), Allowlist.parse(["registry.example"])), "registry.example/acme/bot:managed"
    )

    row = _load_image(database, "registry.example/acme/bot:managed")
    assert row.last_error == "The registry's answer cannot be processed (RecursionError). See the worker's log."


def test_vanished_tag_is_reported_once(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    add_bot(image)
    digest = push.image("managed", "one")
    release_id = _poll(poller, image)
    push.delete(digest)
    for hour in (1, 2):
        _poll(poller, image, NOW + timedelta(hours=hour))

    assert _load_image(database, image).release_id == release_id
    assert _load_event_tags(database) == ["release.detected", "image.vanished"]


def test_tag_that_never_existed_is_recorded_as_an_error_only(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    _, image = pusher
    add_bot(image)

    assert _poll(poller, image) is None
    assert "does not exist" in str(_load_image(database, image).last_error)
    assert _load_event_tags(database) == []


def test_rate_limit_postpones_all_images_of_the_registry(
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
        assert set(polling.schedule_due(session, NOW + timedelta(minutes=121))) == {busy, calm}
    assert {_load_image(database, image).next_poll_at for image in (busy, sibling)} == {NOW + timedelta(hours=2)}


def test_slow_registry_postpones_all_its_images(
    database: Database, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    _, calm = pusher
    with slow_server(lambda _: Answer(b"HTTP/1.1 200 ", FILLER)) as address:
        slow, sibling = (f"{address}/acme/{name}:managed" for name in ("bot", "sibling"))
        for image in (slow, sibling, calm):
            add_bot(image)
        _poll_slow_registry(database, address, slow)

    assert "did not answer completely" in str(_load_image(database, sibling).last_error)
    with database.transaction() as session:
        assert polling.schedule_due(session, NOW + timedelta(minutes=4)) == [calm]
        assert set(polling.schedule_due(session, NOW + timedelta(minutes=31))) == {sibling, calm}


def test_quick_poll_of_a_slow_registry_records_no_error_but_leaves_it_to_slow_polls(
    database: Database, add_bot: Callable[..., None]
) -> None:
    with slow_server(lambda _: Answer(b"HTTP/1.1 200 ", FILLER)) as address:
        slow, sibling = (f"{address}/acme/{name}:managed" for name in ("bot", "sibling"))
        for image in (slow, sibling):
            add_bot(image)
        poller = Poller(database, RegistryClient(deadline=0.3), Allowlist.parse([address]))
        _poll(poller, slow)

        assert (_load_image(database, slow).errors, _load_image(database, slow).next_poll_at) == (0, NOW)
        with database.transaction() as session:
            assert polling.select_slow(session, [slow, sibling, "other.example/bot:1"]) == {slow, sibling}
            assert polling.find_following(session, slow, NOW) is None
            assert polling.find_following(session, slow, NOW, slow=True) == slow
            assert polling.claim_poll(session, sibling, NOW) is None


def test_registry_that_is_quick_again_leaves_the_slow_ones(
    database: Database, add_bot: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = f"sha256:{'a' * 64}"
    with scripted_server(lambda _: Reply(200, {"Docker-Content-Digest": digest})) as server:
        images = [f"{server.address}/acme/{name}:managed" for name in ("bot", "sibling")]
        for image in images:
            add_bot(image)
        with database.transaction() as session:
            polling.schedule_due(session, NOW)
            for image in images:
                polling.mark_slow(session, image, NOW)
            session.execute(sa.update(PolledImage).values(last_digest=digest))
            factories.release(session, repository=f"{server.address}/acme/bot", digest=digest)
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]), slow=True)

        monkeypatch.setattr("daemon.registry.poller.QUICK_SECONDS", 0.0)
        assert poller.poll(images[0], NOW) is not None
        assert _load_image(database, images[0]).is_slow

        monkeypatch.undo()
        poller.poll(images[0], LATER)

    assert not any(_load_image(database, image).is_slow for image in images)


def test_requested_digest_of_a_slow_registry_is_polled_once(database: Database) -> None:
    with slow_server(lambda _: Answer(b"HTTP/1.1 200 ", FILLER)) as address:
        with database.transaction() as session:
            requested = polling.request_digest(session, f"{address}/acme/bot@sha256:{'0' * 64}", NOW).image
        _poll_slow_registry(database, address, requested)

    assert _load_event_tags(database) == ["image.look_up_failed"]
    with database.transaction() as session:
        assert polling.schedule_due(session, NOW + timedelta(hours=1)) == []


def test_image_is_polled_by_one_worker_at_a_time(
    database: Database, add_bot: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator requests a check while the poll of a slow registry runs."""
    asked: list[str | None] = []

    def respond(request: Request) -> Reply:
        with database.transaction() as session:
            polling.check_now(session, image, NOW)
        asked.append(poller.poll(image, NOW))
        return Reply(503)

    with scripted_server(respond) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]))
        _poll(poller, image)

        assert asked == [None]
        assert len(server.requests) == 1
    with database.reading() as session:
        assert polling.schedule_due(session, NOW) == [image]


def test_lease_and_claim_outlast_the_deadlines() -> None:
    """A poll makes at most two calls of the client."""
    assert registry_leases.POLL_LEASE.total_seconds() > 2.5 * DEADLINE_SECONDS
    assert changelogs.CLAIM_DURATION.total_seconds() > 1.2 * changelog_job.READ_SECONDS


def test_unusable_credentials_are_recorded_as_the_error(
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

    assert "is not valid JSON" in str(_load_image(database, image).last_error)
    with database.transaction() as session:
        assert polling.schedule_due(session, utcnow()) == []


def test_image_outside_the_allowlist_is_not_polled(database: Database, add_bot: Callable[..., None]) -> None:
    with scripted_server(lambda _: Reply(500)) as server:
        image = f"{server.address}/acme/bot:managed"
        add_bot(image)

        _poll(Poller(database, RegistryClient(), Allowlist.parse(["ghcr.io/acme"])), image)

        assert server.requests == []
    assert "FLEET_IMAGE_ALLOWLIST" in str(_load_image(database, image).last_error)


def test_requested_digest_becomes_a_release_and_is_polled_once(
    database: Database, poller: Poller, pusher: tuple[Pusher, str], add_bot: Callable[..., None]
) -> None:
    push, image = pusher
    old = push.image("managed", "old")
    push.image("managed", "new")
    with database.transaction() as session:
        requested = polling.request_digest(session, f" {image}@{old} ", NOW)

    release_id = poller.poll(requested.image, NOW)

    [release] = _load_releases(database, image)
    assert (release.id, release.digest) == (release_id, old)
    assert _load_image(database, requested.image).release_id == release_id
    assert _load_image(database, requested.image).next_poll_at is None


@pytest.mark.parametrize("status", [404, 500])
def test_failed_digest_request_is_reported_shown_for_a_day_and_deleted(database: Database, status: int) -> None:
    with scripted_server(lambda _: Reply(status)) as server:
        with database.transaction() as session:
            requested = polling.request_digest(session, f"{server.address}/acme/bot@sha256:{'0' * 64}", NOW).image
        poller = Poller(database, RegistryClient(), Allowlist.parse([server.address]))
        assert poller.poll(requested, NOW) is None

    assert _load_event_tags(database) == ["image.look_up_failed"]
    with database.transaction() as session:
        assert load_overview(session, NOW).all_clear
        assert polling.schedule_due(session, NOW + timedelta(hours=23)) == []
        [line] = release_list.list_images(session)
        assert (line.row.image, bool(line.row.last_error)) == (requested, True)
        polling.schedule_due(session, NOW + timedelta(hours=24))
        assert release_list.list_images(session) == []


def test_requested_digest_of_a_release_is_kept(
    database: Database, poller: Poller, pusher: tuple[Pusher, str]
) -> None:
    push, image = pusher
    with database.transaction() as session:
        requested = polling.request_digest(session, f"{image}@{push.image('managed', 'one')}", NOW).image
    poller.poll(requested, NOW)
    with database.transaction() as session:
        assert polling.schedule_due(session, NOW + timedelta(days=30)) == []
    assert _load_image(database, requested).release_id


def test_concurrent_polls_create_one_release(
    database: Database,
    poller: Poller,
    pusher: tuple[Pusher, str],
    add_bot: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Polls of one registry run at once only when the lease of the first one has expired."""
    monkeypatch.setattr(registry_leases, "POLL_LEASE", timedelta(0))
    push, image = pusher
    tags = [f"tag{number}" for number in range(4)]
    references = [image.replace("managed", tag) for tag in tags]
    for tag, reference in zip(tags, references, strict=True):
        push.image(tag, "one")
        add_bot(reference)
    with database.transaction() as session:
        polling.schedule_due(session, NOW)
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

    [release] = _load_releases(database, image)
    assert sorted(map(str, found)) == sorted(["None"] * 4 + [release.id] * 4)
    assert _load_event_tags(database) == ["release.detected"]

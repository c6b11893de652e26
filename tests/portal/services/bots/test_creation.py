"""Creation of bots from the template: their rows, their places, and the bots of new organizations."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotRequest,
    BotSync,
    Channel,
    Event,
    MemberSync,
    Node,
    NodeState,
    Org,
    OrgState,
    PolledImage,
    Provisioning,
    SyncRole,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_requests, creation, creation_progress
from portal.services.bots.creation import BotOptions
from portal.services.bots.placement import NoRoomError
from portal.services.errors import ConflictError, InvalidError
from portal.services.orgs import creation as org_creation
from tests import factories
from tests.factories import IMAGE

ALLOWED = Allowlist.parse(["registry.example"])


@pytest.fixture
def acme(database: Database) -> str:
    """The organization Acme with a second member, and the template. Return the id of Acme."""
    with database.transaction() as session:
        org = factories.org(session, factories.user(session, "alice"))
        factories.membership(session, org, factories.user(session, "bob"))
        factories.bot_template(session, environment={"TOKEN": "s3cret"}, hosted_environment={"HOSTED": "1"})
        return org.id


def add_node(database: Database, name: str = "north", **values: Any) -> Node:
    """Add a node with the ports 20000 and 20001."""
    with database.transaction() as session:
        return factories.node(session, name, **{"port_first": 20000, "port_last": 20001, **values})


def create(database: Database, org_id: str, **options: Any) -> Bot:
    """Create a bot as an operator does on the command line."""
    with database.transaction() as session:
        org = session.get_one(Org, org_id)
        return creation.create_bot(session, ALLOWED, org, BotOptions(**options), now=utcnow())


def test_rows_of_a_new_bot(database: Database, acme: str) -> None:
    node = add_node(database)
    bot_id = create(database, acme).id
    with database.reading() as session:
        bot = session.get_one(Bot, bot_id)
        assert (bot.phase, bot.node_id, bot.host_port, bot.container_id) == (BotPhase.CREATING, node.id, 20000, None)
        assert (bot.name, bot.subdomain, bot.image, bot.epoch) == ("Acme", "acme", IMAGE, 1)
        assert bot.spec["creation"]["environment"] == {"TOKEN": "s3cret", "HOSTED": "1"}
        sync = session.get_one(BotSync, bot_id)
        assert sync.provisioning is Provisioning.MANAGED
        roles = session.execute(sa.select(MemberSync.user_id, MemberSync.desired_role)).all()
        assert sorted(role for _, role in roles) == sorted([SyncRole.OWNER, SyncRole.MEMBER])
        assert session.scalars(sa.select(PolledImage)).one().next_poll_at is not None
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.created")).one()
        assert "s3cret" not in repr(event.data)


def test_each_bot_has_a_secret_of_256_bits_that_is_encrypted(database: Database, acme: str) -> None:
    add_node(database)
    secrets = [create(database, acme).provision_secret for _ in range(2)]
    assert secrets[0]["current"] != secrets[1]["current"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret["current"]) for secret in secrets)
    with database.reading() as session:
        stored = session.execute(sa.text("SELECT provision_secret, spec FROM bots")).all()
    assert not any(secret["current"] in repr(tuple(row)) for secret in secrets for row in stored)


def test_bots_go_to_the_emptiest_active_node_and_share_no_port(database: Database, acme: str) -> None:
    north, south = add_node(database, "north"), add_node(database, "south")
    add_node(database, "draining", state=NodeState.DRAINING)
    places = [(bot.node_id, bot.host_port) for bot in (create(database, acme) for _ in range(4))]
    assert places == [(north.id, 20000), (south.id, 20000), (north.id, 20001), (south.id, 20001)]
    with pytest.raises(NoRoomError, match="No active node"):
        create(database, acme)


def test_ports_of_adopted_bots_are_avoided_and_those_of_removed_bots_are_free(database: Database, acme: str) -> None:
    node = add_node(database)
    with database.transaction() as session:
        org = session.get_one(Org, acme)
        factories.bot(session, org, session.get_one(Node, node.id), address="127.0.0.1:20000")
        gone = factories.bot(session, org, session.get_one(Node, node.id), address="127.0.0.1:20001")
        gone.phase = BotPhase.REMOVED
    assert create(database, acme).host_port == 20001


def test_chosen_node_must_be_active_and_have_room(database: Database, acme: str) -> None:
    full, draining = add_node(database, port_last=20000), add_node(database, "south", state=NodeState.DRAINING)
    create(database, acme, node=full)
    with pytest.raises(NoRoomError, match="no free port from 20000 to 20000"):
        create(database, acme, node=full)
    with pytest.raises(NoRoomError, match="south is draining"):
        create(database, acme, node=draining)


def test_subdomains_get_numbers_and_a_chosen_one_must_be_free(database: Database, acme: str) -> None:
    add_node(database, port_last=29999)
    assert [create(database, acme).subdomain for _ in range(3)] == ["acme", "acme-2", "acme-3"]
    assert create(database, acme, subdomain="desk", name="Front desk").name == "Front desk"
    with pytest.raises(ConflictError, match="taken"):
        create(database, acme, subdomain="desk")
    with pytest.raises(InvalidError):
        create(database, acme, subdomain="Not valid")


@pytest.mark.parametrize("obstacle", ["no image", "not allowed", "org deleted"])
def test_creation_that_is_not_possible_changes_nothing(database: Database, acme: str, obstacle: str) -> None:
    add_node(database)
    with database.transaction() as session:
        if obstacle == "no image":
            factories.bot_template(session, image=None)
        elif obstacle == "not allowed":
            factories.bot_template(session, image="evil.example/bot:1")
        else:
            session.get_one(Org, acme).state = OrgState.DELETING
    with pytest.raises((ConflictError, InvalidError)):
        create(database, acme)
    with database.reading() as session:
        assert session.scalars(sa.select(Bot)).all() == []


@pytest.mark.slow
def test_simultaneous_creations_get_different_ports(database: Database, acme: str) -> None:
    add_node(database, port_last=20029)
    with ThreadPoolExecutor(10) as pool:
        bots = list(pool.map(lambda _: create(database, acme), range(30)))
    assert sorted(bot.host_port or 0 for bot in bots) == list(range(20000, 20030))
    assert len({bot.subdomain for bot in bots}) == 30


def test_new_organization_gets_a_bot_only_if_the_template_says_so(database: Database, acme: str) -> None:
    with database.transaction() as session:
        alice = session.get_one(Org, acme).owner
        without = org_creation.create_org(session, "Without", alice, now=utcnow())
        factories.bot_template(session, create_for_new_orgs=True)
        with_bot = org_creation.create_org(session, "With bot", alice, now=utcnow())
        requests = [bot_requests.find_request(session, org) for org in (without, with_bot)]
        assert [request is not None for request in requests] == [False, True]


def fulfil_due(database: Database, later: timedelta = timedelta()) -> list[Bot | None]:
    """Fulfil the due requests, as the scheduler does."""
    now = utcnow() + later
    with database.reading() as session:
        due = bot_requests.list_due(session, now)
    results = []
    for org_id in due:
        with database.transaction() as session:
            results.append(bot_requests.fulfil(session, ALLOWED, org_id, now))
    return results


def test_request_waits_visibly_for_a_node_and_is_then_fulfilled_once(database: Database, acme: str) -> None:
    with database.transaction() as session:
        session.add(BotRequest(org_id=acme))
    assert fulfil_due(database) == [None]
    with database.reading() as session:
        (waiting,) = bot_requests.list_waiting(session, 20)
        assert waiting.org.name == "Acme"
        assert "No active node" in str(waiting.error)
    add_node(database)
    assert fulfil_due(database) == []
    (bot,) = fulfil_due(database, timedelta(minutes=1))
    assert bot is not None
    assert bot.org_id == acme
    assert fulfil_due(database, timedelta(minutes=5)) == []


def test_request_of_a_deleted_organization_rests(database: Database, acme: str) -> None:
    add_node(database)
    with database.transaction() as session:
        session.add(BotRequest(org_id=acme))
        session.get_one(Org, acme).state = OrgState.DELETING
    assert fulfil_due(database) == []


@pytest.mark.slow
def test_simultaneous_fulfilments_create_one_bot(database: Database, acme: str) -> None:
    add_node(database, port_last=29999)
    with database.transaction() as session:
        session.add(BotRequest(org_id=acme))

    def fulfil(_number: int) -> bool:
        with database.transaction() as session:
            return bot_requests.fulfil(session, ALLOWED, acme, utcnow()) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(fulfil, range(16))) == 1


def test_bot_that_an_operator_creates_fulfils_the_request(database: Database, acme: str) -> None:
    add_node(database)
    with database.transaction() as session:
        session.add(BotRequest(org_id=acme))
    create(database, acme)
    assert fulfil_due(database) == []


def begin(database: Database, bot_id: str, later: timedelta = timedelta()) -> creation_progress.Attempt | None:
    """Begin an attempt, as the worker does."""
    with database.transaction() as session:
        return creation_progress.begin_attempt(session, bot_id, utcnow() + later)


def test_creation_waits_for_the_first_poll_and_names_its_error(database: Database, acme: str) -> None:
    add_node(database)
    bot_id = create(database, acme).id
    assert begin(database, bot_id) is None
    with database.transaction() as session:
        bot, polled = session.get_one(Bot, bot_id), session.scalars(sa.select(PolledImage)).one()
        assert (bot.creation_error, bot.creation_attempts) == (None, 0)
        polled.last_error = "404: there is no such tag"
    assert begin(database, bot_id, timedelta(seconds=5)) is None
    with database.transaction() as session:
        assert "there is no such tag" in str(session.get_one(Bot, bot_id).creation_error)
        polled = session.scalars(sa.select(PolledImage)).one()
        polled.release_id = factories.release(session).id
    attempt = begin(database, bot_id, timedelta(minutes=1))
    assert attempt is not None
    assert attempt.image.startswith("registry.example/acme/paperclip@sha256:")


def test_image_of_a_pinned_bot_is_polled_until_it_has_a_release(database: Database, acme: str) -> None:
    add_node(database)
    with database.transaction() as session:
        factories.bot_template(session, release_channel=Channel.PINNED)
    bot_id = create(database, acme).id
    with database.transaction() as session:
        polled = session.scalars(sa.select(PolledImage)).one()
        polled.next_poll_at, polled.last_error = None, "the registry is down"
    assert begin(database, bot_id) is None
    with database.reading() as session:
        assert session.scalars(sa.select(PolledImage)).one().next_poll_at is not None


def test_creation_waits_while_the_release_is_quarantined(database: Database, acme: str) -> None:
    add_node(database)
    bot_id = create(database, acme).id
    with database.transaction() as session:
        bad = factories.release(session, "6.6.6", quarantined_at=utcnow(), quarantine_reason="it eats data")
        session.scalars(sa.select(PolledImage)).one().release_id = bad.id
    assert begin(database, bot_id) is None
    with database.reading() as session:
        assert "it eats data" in str(session.get_one(Bot, bot_id).creation_error)


def test_failures_wait_longer_each_time_and_make_one_event(database: Database, acme: str) -> None:
    add_node(database)
    bot_id, waits = create(database, acme).id, []
    for attempts in (1, 2, 3, 40):
        now = utcnow()
        with database.transaction() as session:
            session.get_one(Bot, bot_id).creation_attempts = attempts
            creation_progress.record_failure(session, bot_id, "no such image", now)
        with database.reading() as session:
            due = session.get_one(Bot, bot_id).creation_due_at
            assert due is not None
            waits.append((due - now).total_seconds())
    assert waits == [10, 20, 40, 900]
    with database.reading() as session:
        assert len(session.scalars(sa.select(Event).where(Event.tag == "bot.creation_failed")).all()) == 1


def test_port_that_another_program_uses_is_replaced(database: Database, acme: str) -> None:
    add_node(database)
    bot_id, ports = create(database, acme).id, []
    for _ in range(2):
        with database.transaction() as session:
            creation_progress.record_failure(session, bot_id, "in use", utcnow(), change_port=True)
        with database.reading() as session:
            ports.append(session.get_one(Bot, bot_id).host_port)
    assert ports == [20001, 20000]


def test_retry_takes_the_current_template_and_is_due_at_once(database: Database, acme: str) -> None:
    add_node(database)
    bot_id = create(database, acme).id
    with database.transaction() as session:
        creation_progress.record_failure(session, bot_id, "wrong path", utcnow())
        factories.bot_template(session, health_path="/api/health", volumes=["/state"])
        bot = session.get_one(Bot, bot_id)
        before = bot.spec["creation"]["creation_id"]
        creation.retry_creation(session, ALLOWED, bot, now=utcnow(), actor=None)
        assert (bot.health_path, bot.spec["creation"]["volumes"], bot.creation_error) == (
            "/api/health",
            ["/state"],
            None,
        )
        assert bot.spec["creation"]["creation_id"] != before
        assert creation_progress.list_due(session, utcnow(), repeated=False) == [bot_id]
        bot.phase = BotPhase.ACTIVE
        session.flush()
        with pytest.raises(ConflictError, match="not being created"):
            creation.retry_creation(session, ALLOWED, bot, now=utcnow(), actor=None)

"""The audit log: actors, sentences, old and new values, addresses, filters, and who may read which events."""

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Event, EventTag, Membership, User, utcnow
from portal.password_hashing import hash_password
from portal.services import events
from portal.services.account_changes import deletion
from portal.services.accounts import administration
from portal.services.accounts.accounts import Credentials
from portal.services.audit import log as event_log
from portal.services.audit import sentences
from tests import factories
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene


def text(page: str) -> str:
    """Return the visible text of a page, with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def log(client: FlaskClient, address: str = "/o/acme/audit") -> str:
    """Return the visible text of the log alone."""
    separator = "&" if "?" in address else "?"
    return text(client.get(f"{address}{separator}part=log", headers={"HX-Request": "true"}).text)


def add_event(database: Database, cast: Cast, tag: str, actor: str | None = None, **data: object) -> None:
    """Record an event of Acme."""
    actor_id = cast.people[actor] if actor else None
    with database.transaction() as session:
        events.record(session, EventTag(tag), actor=actor_id, org_id=cast.org_id, data=data)


def test_role_change_shows_actor_member_old_and_new_role_and_address(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    with database.reading() as session:
        row = session.query(Membership).filter_by(user_id=cast.people["bob"]).one()
    alice = signed_in("alice")
    alice.post(f"/o/acme/team/{row.id}/role", data={"role": "admin", "version": row.version})
    read = log(alice)
    assert "The role of Bob was changed Member → Admin" in read
    assert "by Alice from 127.0.0.1" in read
    with database.reading() as session:
        event = session.query(Event).one()
    assert event.address == "127.0.0.1"
    assert event.request_id


def test_log_shows_current_names_and_still_lists_deleted_users(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    add_event(database, cast, "member.removed", "carol", user_id=cast.people["bob"], email="bob@example.com")
    add_event(database, cast, "member.left", "mallory", user_id=cast.people["mallory"])
    add_event(database, cast, "org.renamed", None, old="Acme", new="Acme 2")
    with database.transaction() as session:
        session.get_one(User, cast.people["carol"]).name = "deleted user"
        session.get_one(User, cast.people["bob"]).name = "Robert"
    read = log(signed_in("alice"))
    assert "Robert was removed by deleted user" in read
    assert "Mallory left" in read
    assert "The organization was renamed Acme → Acme 2 by Flotilla" in read


def test_members_read_no_errors_of_the_member_sync(
    signed_in: SignedIn, database: Database, cast: Cast, scene: Scene
) -> None:
    bob = cast.people["bob"]
    with database.transaction() as session:
        for tag, data in (
            (EventTag.SYNC_BLOCKED, {"error": "the bot refused the secret (HTTP 401)", "user_id": bob}),
            (EventTag.SYNC_DRIFT_REPAIRED, {"user_id": bob, "found": "owner", "expected": "member"}),
            (EventTag.SYNC_DRIFT_REPAIRED, {"member": "10.0.0.7/root", "found": "owner", "expected": "none"}),
            (EventTag.SYNC_REMOVALS_REFUSED, {"unknown": 7, "listed": 9}),
            (EventTag.SYNC_REMOVALS_ALLOWED, {"unknown": 7}),
        ):
            events.record(session, tag, org_id=cast.org_id, bot_id=scene.bots[0], data=data)
    read = log(signed_in("alice"))
    for sentence in (
        "Paperclip 1 refuses members by",
        "The access of Bob in Paperclip 1 differed and is being repaired",
        "The access of a person whom only the bot knew in Paperclip 1 differed and is being repaired",
        "Paperclip 1 has 7 unknown members, too many to remove automatically",
        "The removal of 7 unknown members from Paperclip 1 was allowed",
    ):
        assert sentence in read
    assert "401" not in read
    assert "10.0.0.7" not in read
    assert "refuses members: the bot refused the secret (HTTP 401)" in log(signed_in("root"), "/admin/events")


def test_values_are_escaped_and_not_formatted(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    add_event(database, cast, "org.renamed", "alice", old="Acme", new="<script>alert(1)</script>{actor}")
    page = signed_in("alice").get("/o/acme/audit").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{actor}" in page


def test_organization_reads_only_its_own_events(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        other = factories.org(session, session.get_one(User, cast.people["mallory"]), "other")
        events.record(session, EventTag.ORG_RENAMED, actor=cast.people["mallory"], org_id=other.id, data={})
        events.record(session, EventTag.USER_SIGNED_IN, actor=cast.people["bob"])
    add_event(database, cast, "org.created", "alice", name="Acme")
    read = log(signed_in("alice"))
    assert "Acme was created" in read
    assert "Mallory" not in read
    assert "signed in" not in read
    everything = log(signed_in("root"), "/admin/events")
    assert "Mallory" in everything
    assert "Bob signed in" in everything


def test_organization_sees_operators_as_its_provider(
    signed_in: SignedIn, database: Database, cast: Cast, scene: Scene
) -> None:
    add_event(database, cast, "bot.restarted", "root")
    add_event(database, cast, "org.restored", None, via="command line")
    read = log(signed_in("alice"))
    assert read.count("your provider") == 2
    assert "Root" not in read
    everything = log(signed_in("root"), "/admin/events")
    assert "Root" in everything
    assert "an operator, by command line" in everything


@pytest.mark.parametrize("text", ["root", "Root", "root@example.com", "ro", "@example"])
def test_search_does_not_reveal_who_the_operators_are(
    signed_in: SignedIn, database: Database, cast: Cast, text: str
) -> None:
    add_event(database, cast, "bot.restarted", "root")
    add_event(database, cast, "member.left", "bob", user_id=cast.people["bob"])
    assert "your provider" not in log(signed_in("alice"), f"/o/acme/audit?person={text}")
    assert "was restarted Acme by Root" in log(signed_in("root"), f"/admin/events?person={text}")


@pytest.mark.parametrize("how", ["revoked", "deleted"])
def test_former_operators_stay_anonymous_to_organizations(
    signed_in: SignedIn, database: Database, cast: Cast, how: str
) -> None:
    carol, mallory = cast.people["carol"], cast.people["mallory"]
    with database.transaction() as session:
        root = session.get_one(User, cast.people["root"])
        administration.grant_operator(session, mallory, utcnow(), actor=root)
        administration.grant_operator(session, carol, utcnow(), actor=root)
    assert signed_in("mallory").post("/o/acme/transfer").status_code == 403
    add_event(database, cast, "bot.restarted", "mallory")
    add_event(database, cast, "bot.restarted", "carol")
    with database.transaction() as session:
        if how == "revoked":
            administration.revoke_operator(
                session, mallory, utcnow(), actor=session.get_one(User, cast.people["root"])
            )
        else:
            deletion.delete_account(session, Credentials(mallory, None), utcnow())
    read = log(signed_in("alice"))
    assert read.count("your provider") == 3
    assert "Mallory" not in read
    assert "127.0.0.1" not in read
    assert "by Carol" in read, "she is a member of Acme"


def test_outsiders_are_named_as_actors(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    add_event(database, cast, "invite.declined", "mallory", email="mallory@example.com")
    signed_in("mallory").get("/o/acme/")
    read = log(signed_in("alice"))
    assert "by Mallory" in read
    assert "Mallory tried to open this organization" in read


def test_operator_who_is_a_member_is_named(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.add(Membership(org_id=cast.org_id, user_id=cast.people["root"]))
    add_event(database, cast, "member.left", "root", user_id=cast.people["root"])
    assert "Root left" in log(signed_in("alice"))


@pytest.fixture
def history(database: Database, cast: Cast) -> None:
    """Three events of Acme on different days."""
    with database.transaction() as session:
        for days, tag, actor in (
            (9, "member.joined", "bob"),
            (5, "member.left", "mallory"),
            (1, "org.created", "alice"),
        ):
            event = Event(tag=tag, actor_id=cast.people[actor], org_id=cast.org_id, data={})
            event.at = utcnow() - timedelta(days=days)
            session.add(event)


def day(ago: int) -> str:
    """Return the date of some days ago, in the format of date fields."""
    return (utcnow() - timedelta(days=ago)).date().isoformat()


def test_log_can_be_filtered_by_event_person_and_day(signed_in: SignedIn, history: None) -> None:
    alice = signed_in("alice")

    def found(query: str) -> list[str]:
        read = log(alice, f"/o/acme/audit?{query}")
        return [name for name in ("Bob", "Mallory", "Acme") if name in read]

    assert found("") == ["Bob", "Mallory", "Acme"]
    assert found("about=member") == ["Bob", "Mallory"]
    assert found("about=member.left") == ["Mallory"]
    assert found("person=BOB@example") == ["Bob"]
    assert found("person=%25") == []
    assert found(f"since={day(6)}") == ["Mallory", "Acme"]
    assert found(f"since={day(9)}&until={day(5)}") == ["Bob", "Mallory"]
    assert found(f"until={day(6)}&person=bob&about=member.joined") == ["Bob"]
    assert found("since=0001-01-01&until=9999-12-31") == ["Bob", "Mallory", "Acme"]
    assert found(f"before={10**30}") == ["Bob", "Mallory", "Acme"]
    assert found("since=yesterday&until=2026-99-99&about=&before=x") == ["Bob", "Mallory", "Acme"]
    assert "No matching events" in log(alice, "/o/acme/audit?person=nobody")


def test_operators_can_filter_by_organization(signed_in: SignedIn, database: Database, history: None) -> None:
    root = signed_in("root")
    assert "Bob" in log(root, "/admin/events?org=ACM")
    assert "No matching events" in log(root, "/admin/events?org=other")


def test_person_filter_finds_actors_and_the_users_whom_events_concern(
    signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    add_event(database, cast, "member.removed", "carol", user_id=cast.people["bob"])
    add_event(database, cast, "invite.sent", "alice", email="new@example.com", role="member")
    alice = signed_in("alice")
    assert "Bob was removed" in log(alice, "/o/acme/audit?person=bob")
    assert "new@example.com was invited as a member" in log(alice, "/o/acme/audit?person=new@")
    assert "Bob" not in log(alice, "/o/acme/audit?person=new@")


def test_pages_do_not_shift_when_events_are_added(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    for number in range(event_log.EVENTS_PER_PAGE + 3):
        add_event(database, cast, "org.renamed", "alice", old=f"name {number}", new=f"name {number + 1}.")
    alice = signed_in("alice")
    first = alice.get("/o/acme/audit?about=org").text
    address = re.search(r'href="([^"]*before=[^"]*)"', first)
    assert address
    add_event(database, cast, "org.renamed", "alice", old="later", new="latest")
    second = text(alice.get(address[1].replace("&amp;", "&")).text)
    assert [f"→ name {number}." in second for number in (4, 3, 2, 1)] == [False, True, True, True]
    assert "latest" not in second
    assert "Older" not in second
    assert "Newest" in second


def test_refused_attempts_are_recorded(signed_in: SignedIn, cast: Cast, database: Database) -> None:
    assert signed_in("bob").get("/o/acme/settings").status_code == 403
    assert signed_in("bob").post("/o/acme/transfer", data={"user_id": "x"}).status_code == 403
    assert signed_in("mallory").get("/o/acme/").status_code == 404
    assert signed_in("carol").get("/admin/").status_code == 403
    read = log(signed_in("alice"), "/o/acme/audit?about=access")
    assert "Bob tried to change the update settings" in read
    assert "Bob tried to transfer the ownership" in read
    assert "Mallory tried to open this organization" in read
    assert "Carol" not in read
    assert "Carol tried to open a page of the operators" in log(signed_in("root"), "/admin/events?about=access")


def test_refused_attempts_of_a_user_are_limited_per_hour(signed_in: SignedIn, database: Database, cast: Cast) -> None:
    mallory, bob = signed_in("mallory"), signed_in("bob")
    for _ in range(event_log.REFUSALS_KEPT_PER_HOUR + 5):
        mallory.get("/o/acme/")
    bob.get("/o/acme/settings")
    with database.reading() as session:
        refused = [event.actor_id for event in session.query(Event).filter_by(tag="access.refused")]
    assert refused.count(cast.people["mallory"]) == event_log.REFUSALS_KEPT_PER_HOUR
    assert refused.count(cast.people["bob"]) == 1
    assert "further attempts within this hour are not listed" in log(signed_in("alice"))


def test_request_for_an_unknown_organization_is_not_recorded(signed_in: SignedIn, database: Database) -> None:
    assert signed_in("mallory").get("/o/nowhere/").status_code == 404
    with database.reading() as session:
        assert session.query(Event).count() == 0


def test_sign_in_sign_out_and_failed_sign_in_are_recorded(
    stranger: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).password_hash = hash_password("a long and boring password")
    stranger.post("/login", data={"email": "bob@example.com", "password": "wrong, but also long"})
    stranger.post("/login", data={"email": "bob@example.com", "password": "a long and boring password"})
    stranger.post("/logout")
    read = log(signed_in("root"), "/admin/events?about=user&person=bob")
    positions = [read.find(sentence) for sentence in ("Bob signed out", "Bob signed in", "A sign-in as Bob failed")]
    assert -1 not in positions, read
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("email", "whom"), [("bob@example.com", "Bob"), ("nobody@example.com", "an unknown address")]
)
def test_failed_sign_in_is_attributed_to_a_visitor(
    stranger: FlaskClient, signed_in: SignedIn, email: str, whom: str
) -> None:
    stranger.post("/login", data={"email": email, "password": "wrong, but also long"})
    read = log(signed_in("root"), "/admin/events")
    assert f"A sign-in as {whom} failed by a visitor" in read


def test_every_tag_has_a_sentence() -> None:
    known = sentences.list_tags_by_subject()
    assert {tag for tags in known.values() for tag in tags} == set(EventTag)


def test_bot_page_shows_the_events_of_the_bot(
    signed_in: SignedIn, database: Database, cast: Cast, scene: Scene
) -> None:
    with database.transaction() as session:
        events.record(session, EventTag.BOT_STOPPED, actor=cast.people["root"], bot_id=scene.bots[0])
        change = {"old": "running", "new": "unhealthy"}
        events.record(session, EventTag.BOT_STATE_CHANGED, bot_id=scene.bots[0], data=change)
    page = text(signed_in("bob").get(f"/o/acme/bots/{scene.bots[0]}").text)
    assert "Paperclip 1 was stopped your provider" in page
    assert "The state of Paperclip 1 changed: running → unhealthy Flotilla" in page
    assert "Root" not in page

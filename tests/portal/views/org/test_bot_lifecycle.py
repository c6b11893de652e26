"""Tests of the pages of a bot that is being created or removed."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Bot, BotPhase, BotState, DesiredState, Event, OrgState, UpdateState, User, utcnow
from portal.queue import CREATIONS_QUEUE, open_queue, updates_queue_name
from tests import factories
from tests.support.cast import SignedIn
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.requests


def change(database: Database, scene: Scene, **values: Any) -> str:
    """Change the first bot, and return the address of its page."""
    with database.transaction() as session:
        for name, value in values.items():
            setattr(session.get_one(Bot, scene.bots[0]), name, value)
    return f"/o/acme/bots/{scene.bots[0]}"


def load_bot(database: Database, scene: Scene) -> Bot:
    """Return the first bot."""
    with database.reading() as session:
        return session.get_one(Bot, scene.bots[0])


def count_jobs(app: Flask, bot: Bot) -> int:
    """Return the number of jobs in the queue of a bot's node."""
    return len(open_queue(app.extensions["redis"], updates_queue_name(bot.node_id)))


def cast_id(session: Session, person: str) -> str:
    """Return the id of a user of the cast."""
    return session.scalars(sa.select(User.id).where(User.name == person.title())).one()


def creating(database: Database, scene: Scene) -> str:
    """Let the creation of the first bot have failed once."""
    error = "Pulling registry.internal/bot failed"
    before = {"container_id": None, "current_digest": None, "state": BotState.UNKNOWN}
    failed = {"creation_error": error, "creation_attempts": 1, "creation_due_at": utcnow() + timedelta(seconds=10)}
    return change(database, scene, phase=BotPhase.CREATING, **before, **failed)


def test_customers_read_that_the_bot_is_being_set_up_and_no_error(
    signed_in: SignedIn, database: Database, scene: Scene
) -> None:
    page = creating(database, scene)
    for person, reads_error in (("bob", False), ("alice", False), ("root", True)):
        for address in (page, "/o/acme/", f"{page}?part=status"):
            text = signed_in(person).get(address, headers={"HX-Request": "true"} if "?" in address else {}).text
            assert "Your bot is being set up" in text
            assert ("registry.internal" in text) is reads_error
            assert "Update available: 1.5.0" not in text or address == "/o/acme/"


@pytest.mark.every_database
def test_operator_tries_again(signed_in: SignedIn, app: Flask, database: Database, scene: Scene) -> None:
    page = creating(database, scene)
    with database.transaction() as session:
        factories.bot_template(session)
    assert signed_in("root").post(f"{page}/retry-creation").status_code == 303
    bot = load_bot(database, scene)
    assert (bot.creation_error, bot.creation_attempts) == (None, 0)
    assert len(open_queue(app.extensions["redis"], CREATIONS_QUEUE)) == 1


@pytest.mark.every_database
@pytest.mark.parametrize(("choice", "keep_data"), [("keep", True), ("delete", False)])
@pytest.mark.parametrize("person", ["alice", "carol", "root"])
def test_owner_admin_and_operator_remove_and_restore_a_bot(  # noqa: PLR0917 - fixtures come by name
    signed_in: SignedIn, app: Flask, database: Database, scene: Scene, person: str, choice: str, keep_data: bool
) -> None:
    page, client = change(database, scene, container_id="c" * 64), signed_in(person)
    answer = client.post(f"{page}/remove", data={"data_choice": choice, "name": "Paperclip 1"})
    assert answer.status_code == 303
    bot = load_bot(database, scene)
    assert (bot.phase, bot.keep_data, bot.desired_state) == (BotPhase.REMOVING, keep_data, DesiredState.STOPPED)
    assert count_jobs(app, bot) == 1
    text = signed_in("bob").get(page).text
    assert ("Its data is kept" in text) is keep_data
    assert "Remove…" not in text
    assert "Restore" not in text
    assert f"{page}/restore" in client.get(page).text
    assert client.post(f"{page}/restore").status_code == 303
    assert load_bot(database, scene).phase is BotPhase.ACTIVE


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"name": "Paperclip 1"}, "Choose what happens to the data."),
        ({"name": "Paperclip 1", "data_choice": "burn"}, "Choose one of the options."),
        ({"data_choice": "delete"}, "Type the name of the bot exactly: Paperclip 1"),
        ({"data_choice": "delete", "name": "Paperclip 2"}, "Type the name of the bot exactly: Paperclip 1"),
    ],
)
def test_removal_needs_the_name_and_a_choice_about_the_data(
    signed_in: SignedIn, database: Database, scene: Scene, data: dict[str, str], problem: str
) -> None:
    page = change(database, scene, container_id="c" * 64)
    answer = signed_in("alice").post(f"{page}/remove", data=data)
    assert (answer.status_code, problem in answer.text) == (422, True)
    assert load_bot(database, scene).phase is BotPhase.ACTIVE
    # Without a trigger, htmx would replace the form at the first click into it.
    opening_tag = re.search('<div id="manage"[^>]*>', answer.text)
    assert opening_tag is not None
    assert "hx-get" not in opening_tag[0]


def test_customers_cannot_skip_the_grace_period(signed_in: SignedIn, database: Database, scene: Scene) -> None:
    page = change(database, scene, container_id="c" * 64)
    data = {"data_choice": "delete", "name": "Paperclip 1", "immediately": "1", "now": "1", "remove_after": "0"}
    signed_in("alice").post(f"{page}/remove", data=data)
    remove_after = load_bot(database, scene).remove_after
    assert remove_after is not None
    assert remove_after > utcnow() + timedelta(days=6)


@pytest.mark.every_database
def test_bot_can_no_longer_be_restored_after_the_grace_period(
    signed_in: SignedIn, database: Database, scene: Scene
) -> None:
    ended = {"phase": BotPhase.REMOVING, "keep_data": False, "remove_after": utcnow() - timedelta(minutes=1)}
    page = change(database, scene, **ended)
    assert f"{page}/restore" not in signed_in("alice").get(page).text
    answer = signed_in("alice").post(f"{page}/restore")
    assert (answer.status_code, "It is too late" in answer.text) == (409, True)


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        ("start", DesiredState.STOPPED, DesiredState.RUNNING),
        ("stop", DesiredState.RUNNING, DesiredState.STOPPED),
        ("restart", DesiredState.RUNNING, DesiredState.RUNNING),
    ],
)
@pytest.mark.parametrize("person", ["alice", "carol", "root"])
def test_owner_admin_and_operator_start_stop_and_restart_a_bot(  # noqa: PLR0917 - fixtures come by name
    signed_in: SignedIn,
    app: Flask,
    database: Database,
    scene: Scene,
    person: str,
    operation: str,
    before: DesiredState,
    after: DesiredState,
) -> None:
    page = change(database, scene, container_id="c" * 64, desired_state=before, applied_state=before)
    client = signed_in(person)
    assert f'action="{page}/{operation}"' in client.get(page).text
    assert client.post(f"{page}/{operation}").status_code == 303
    bot = load_bot(database, scene)
    assert (bot.desired_state, bot.restart_requested_at is not None) == (after, operation == "restart")
    assert count_jobs(app, bot) == 1
    words = {"start": "Starting", "stop": "Stopping", "restart": "Restarting"}[operation]
    assert f">{words}: waiting for a worker</span>" in signed_in("bob").get(page).text
    with database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == f"bot.{operation}_requested")).one()
        assert (event.actor_id, event.bot_id) == (cast_id(session, person), bot.id)


def test_reason_for_a_restart_is_in_the_events_that_everybody_reads(
    signed_in: SignedIn, database: Database, scene: Scene
) -> None:
    page = change(database, scene, container_id="c" * 64)
    too_long = signed_in("alice").post(f"{page}/restart", data={"reason": "x" * 201})
    assert (too_long.status_code, "at most 200 characters" in too_long.text) == (422, True)
    assert load_bot(database, scene).restart_requested_at is None
    signed_in("alice").post(f"{page}/restart", data={"reason": " it hangs \x1b[31m<b>\n since noon "})
    assert "A restart of Paperclip 1 was requested (it hangs &lt;b&gt; since noon)" in signed_in("bob").get(page).text


@pytest.mark.parametrize("operation", ["start", "stop", "restart", "remove", "restore"])
def test_members_and_outsiders_can_do_nothing_with_a_bot(
    signed_in: SignedIn, database: Database, scene: Scene, operation: str
) -> None:
    for phase in (BotPhase.ACTIVE, BotPhase.REMOVING):
        page = change(database, scene, container_id="c" * 64, phase=phase, remove_after=utcnow() + timedelta(days=1))
        before = load_bot(database, scene)
        data = {"data_choice": "delete", "name": "Paperclip 1"}
        assert signed_in("bob").post(f"{page}/{operation}", data=data).status_code == 403
        assert signed_in("mallory").post(f"{page}/{operation}", data=data).status_code == 404
        after = load_bot(database, scene)
        assert (after.phase, after.desired_state, after.version) == (
            before.phase,
            before.desired_state,
            before.version,
        )
        assert f"{page}/{operation}" not in signed_in("bob").get(page).text


@pytest.mark.parametrize("operation", ["start", "stop", "restart", "remove", "restore", "retry-creation", "clear"])
def test_bot_of_another_organization_is_not_found(
    signed_in: SignedIn, database: Database, scene: Scene, operation: str
) -> None:
    with database.transaction() as session:
        owner = factories.user(session, "otto")
        session.flush()
        factories.org(session, owner, "other")
        alice = session.scalars(sa.select(User).where(User.name == "Alice")).one()
        org = factories.org(session, alice, "second")
        assert org.id != session.get_one(Bot, scene.bots[0]).org_id
    address = f"/o/second/bots/{scene.bots[0]}/{operation}"
    data = {"data_choice": "delete", "name": "Paperclip 1", "reason": "mine"}
    person = "root" if operation in {"retry-creation", "clear"} else "alice"
    assert signed_in(person).post(address, data=data).status_code == 404
    assert load_bot(database, scene).phase is BotPhase.ACTIVE


BUSY: list[tuple[dict[str, Any], str]] = [
    ({"phase": BotPhase.CREATING, "container_id": None}, "is being set up"),
    ({"phase": BotPhase.REMOVING, "remove_after": utcnow()}, "is being removed"),
    ({"phase": BotPhase.REMOVED, "container_id": None}, "was removed"),
    ({"needs_attention": "docker start /srv/secret"}, "Your provider is investigating a problem"),
]


@pytest.mark.parametrize(("values", "words"), BUSY)
@pytest.mark.parametrize("operation", ["start", "stop", "restart"])
def test_bot_that_cannot_be_operated_has_no_buttons_and_refuses_with_a_sentence(  # noqa: PLR0917 - by name
    signed_in: SignedIn, database: Database, scene: Scene, values: dict[str, Any], words: str, operation: str
) -> None:
    page, alice = change(database, scene, **values), signed_in("alice")
    assert f"{page}/{operation}" not in alice.get(page).text
    before = load_bot(database, scene)
    answer = alice.post(f"{page}/{operation}")
    assert (answer.status_code, words in answer.text, "/srv/secret" in answer.text) == (409, True, False)
    bot = load_bot(database, scene)
    assert (bot.desired_state, bot.restart_requested_at) == (before.desired_state, None)


@pytest.mark.every_database
def test_bot_is_not_operated_while_its_update_runs(signed_in: SignedIn, database: Database, scene: Scene) -> None:
    page, alice = change(database, scene, container_id="c" * 64), signed_in("alice")
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.RUNNING])
    text = alice.get(page).text
    assert "can be stopped and restarted when its update has ended" in text
    assert f"{page}/stop" not in text
    answer = alice.post(f"{page}/stop")
    assert (answer.status_code, "is being updated. Try again" in answer.text) == (409, True)
    assert load_bot(database, scene).desired_state is DesiredState.RUNNING


@pytest.mark.parametrize(
    ("operation", "state", "words"),
    [
        ("start", DesiredState.RUNNING, "is already started"),
        ("stop", DesiredState.STOPPED, "is already stopped"),
        ("restart", DesiredState.STOPPED, "is stopped. Start it"),
    ],
)
def test_outdated_page_shows_the_current_state(  # noqa: PLR0917 - fixtures come by name
    signed_in: SignedIn, database: Database, scene: Scene, operation: str, state: DesiredState, words: str
) -> None:
    page = change(database, scene, container_id="c" * 64, desired_state=state, applied_state=state)
    answer = signed_in("carol").post(f"{page}/{operation}")
    assert (answer.status_code, words in answer.text) == (409, True)
    assert ("Start Paperclip 1" in answer.text) is (state is DesiredState.STOPPED)


def test_organization_in_deletion_offers_no_operation(signed_in: SignedIn, database: Database, scene: Scene) -> None:
    page = change(database, scene, container_id="c" * 64)
    with database.transaction() as session:
        org = session.get_one(Bot, scene.bots[0]).org
        org.state, org.delete_after = OrgState.DELETING, utcnow() + timedelta(days=7)
    for person in ("alice", "root"):
        text = signed_in(person).get(page).text
        assert all(f"{page}/{operation}" not in text for operation in ("stop", "restart", "remove"))
        assert signed_in(person).post(f"{page}/stop").status_code == 409


def test_buttons_change_when_the_state_changes(signed_in: SignedIn, database: Database, scene: Scene) -> None:
    """The part with the buttons asks for its new content whenever the status has changed."""
    page, alice = change(database, scene, container_id="c" * 64), signed_in("alice")
    text = alice.get(page).text
    found = re.search(r'hx-get="([^"]*part=manage[^"]*)"', text)
    assert found is not None
    address = html.unescape(found[1])
    headers = {"HX-Request": "true", "X-Tenant-Id": load_bot(database, scene).org_id}
    assert alice.get(address, headers=headers).status_code == 204
    change(database, scene, desired_state=DesiredState.STOPPED)
    assert "Start Paperclip 1" in alice.get(address, headers=headers).text


@pytest.mark.every_database
def test_bot_that_needs_attention_is_removed_with_what_is_known_about_its_data(
    signed_in: SignedIn, database: Database, scene: Scene
) -> None:
    page = change(database, scene, container_id="c" * 64, needs_attention="docker start /srv/secret")
    alice = signed_in("alice")
    assert "The last update failed, and its data may be incomplete." in alice.get(page).text
    answer = alice.post(f"{page}/remove", data={"data_choice": "keep", "name": "Paperclip 1"})
    assert answer.status_code == 303
    assert load_bot(database, scene).phase is BotPhase.REMOVING
    assert "Mark as fixed" not in signed_in("root").get(page).text
    assert "docker start" not in signed_in("root").get("/admin/").text


def test_removed_bot_has_a_page_for_links_from_its_history(
    signed_in: SignedIn, database: Database, scene: Scene
) -> None:
    page = change(database, scene, phase=BotPhase.REMOVED, container_id=None)
    assert "This bot was removed." in signed_in("bob").get(page).text
    assert signed_in("alice").post(f"{page}/update", data={"digest": scene.new_digest}).status_code == 422


def test_failed_creation_is_shown_on_the_overview(signed_in: SignedIn, database: Database, scene: Scene) -> None:
    creating(database, scene)
    text = signed_in("root").get("/admin/").text
    assert "Pulling registry.internal/bot failed" in text
    assert "being set up" in signed_in("root").get("/admin/fleet?show=creating").text


def test_log_of_a_failed_creation_is_on_the_page_of_the_bot_only(
    signed_in: SignedIn, database: Database, scene: Scene
) -> None:
    page = creating(database, scene)
    change(database, scene, creation_error="Health check failed\nLast lines of the log:\nno space\nbye")
    root = signed_in("root")
    assert '<pre class="log">Last lines of the log:\nno space\nbye</pre>' in root.get(page).text
    for address in ("/admin/", f"/admin/orgs/{load_bot(database, scene).org_id}"):
        text = root.get(address).text
        assert ("Health check failed" in text, "no space" in text) == (True, False)
    assert "no space" not in signed_in("alice").get(page).text


def test_page_says_when_a_stopped_bot_is_started(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    url = f"/o/acme/bots/{scene.bots[0]}"

    def read_request(name: str) -> str:
        page = signed_in(name).get(url).text
        return " ".join(page.partition('<p class="headline">')[2].partition("<dl")[0].split())

    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        bot.state, bot.restart_requested_at = BotState.STOPPED, utcnow() + timedelta(minutes=5)
    assert "The next attempt to start it follows <time" in read_request("bob")
    assert "in 5 min" in read_request("root")
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).restart_requested_at = None
    assert "Stopped unexpectedly" in read_request("bob")
    assert "Restart it" not in read_request("bob")
    assert "it has stopped. Restart it" in read_request("alice")
    assert "was stopped on the node, so it is not started automatically" in read_request("root")

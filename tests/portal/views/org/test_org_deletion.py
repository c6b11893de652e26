"""Deleting an organization and taking that back: password, name, bots, and what is closed meanwhile."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, DesiredState, Event, Org, OrgState, OutgoingMail, User, utcnow
from portal.password_hashing import hash_password
from portal.queue import connect, open_queue, updates_queue_name
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

PASSWORD = "a long and boring password"


@pytest.fixture
def alice(signed_in: SignedIn, database: Database, cast: Cast) -> FlaskClient:
    """The owner, who has a password."""
    stored = hash_password(PASSWORD)
    with database.transaction() as session:
        session.get_one(User, cast.people["alice"]).password_hash = stored
    return signed_in("alice")


def delete(client: FlaskClient, name: str = "Acme", password: str = PASSWORD) -> int:
    """Send the form; gives the status."""
    return client.post("/o/acme/delete", data={"name": name, "password": password}).status_code


def acme(database: Database, cast: Cast) -> Org:
    """The organization as it is now."""
    with database.reading() as session:
        return session.get_one(Org, cast.org_id)


def wishes(database: Database) -> list[DesiredState]:
    """What is wanted of the bots, by name."""
    with database.reading() as session:
        return [bot.desired_state for bot in session.query(Bot).order_by(Bot.name)]


def test_the_page_says_what_will_be_hit(alice: FlaskClient, scene: Scene) -> None:
    page = alice.get("/o/acme/delete").text
    assert "3 bots stop at once" in page
    assert "3 people of Acme are told" in page


@pytest.mark.parametrize(
    ("name", "password", "complaint"),
    [
        ("acme", PASSWORD, "exactly: Acme"),
        ("Acme", "wrong password, and long", "not your password"),
        ("", PASSWORD, "Type its name"),
        ("Acme", "", "Enter your password"),
    ],
)
def test_it_takes_the_name_and_the_password(alice: FlaskClient, name: str, password: str, complaint: str) -> None:
    answer = alice.post("/o/acme/delete", data={"name": name, "password": password})
    assert answer.status_code == 422
    assert complaint in answer.text
    assert PASSWORD not in answer.text
    assert "is being deleted" not in alice.get("/o/acme/").text


def test_guessing_the_password_is_limited(alice: FlaskClient) -> None:
    assert [delete(alice, password="a wrong password") for _ in range(11)] == [422] * 10 + [429]


def test_bots_stop_and_everybody_is_told(alice: FlaskClient, database: Database, cast: Cast, scene: Scene) -> None:
    assert delete(alice) == 303
    org = acme(database, cast)
    assert org.state is OrgState.DELETING
    assert org.delete_after is not None
    assert timedelta(days=6, hours=23) < org.delete_after - utcnow() <= timedelta(days=7)
    assert wishes(database) == [DesiredState.STOPPED] * 3
    with database.reading() as session:
        assert {mail.to for mail in session.query(OutgoingMail)} == {
            "alice@example.com",
            "bob@example.com",
            "carol@example.com",
        }
        (event,) = session.query(Event).filter_by(tag="org.deletion_requested")
        assert (event.actor_id, event.data["bots"]) == (cast.people["alice"], 3)
    assert delete(alice) == 409


def test_workers_are_asked_to_stop_and_start_the_bots(alice: FlaskClient, scene: Scene, redis_url: str) -> None:
    def asked() -> list[tuple[str, list[str]]]:
        with connect(redis_url) as redis:
            queue = open_queue(redis, updates_queue_name(scene.node))
            jobs = [(str(job.func_name), list(job.args)) for job in queue.jobs]
            redis.flushall()
            return sorted(jobs)

    every_bot = sorted(("daemon.jobs.apply_desired_state", [bot_id]) for bot_id in scene.bots)
    delete(alice)
    assert asked() == every_bot
    alice.post("/o/acme/restore")
    assert asked() == every_bot


def test_meanwhile_it_can_be_read_but_not_changed(
    alice: FlaskClient, signed_in: SignedIn, scene: Scene, database: Database, cast: Cast
) -> None:
    delete(alice)
    bob, carol = signed_in("bob"), signed_in("carol")
    for person in (alice, bob, carol):
        assert "Acme is being deleted." in person.get("/o/acme/").text
        assert person.get("/o/acme/team").status_code == 200
    assert "Restore Acme" in alice.get("/o/acme/").text
    assert "Restore Acme" not in carol.get("/o/acme/").text
    for address in ("settings/name", "settings/updates", "transfer", f"bots/{scene.bots[0]}/update"):
        assert alice.post(f"/o/acme/{address}", data={"user_id": cast.people["bob"]}).status_code == 409
    assert "is being deleted" in alice.get("/orgs").text
    assert bob.post("/o/acme/team/leave").status_code == 303


def test_it_is_restored_as_it_was(
    alice: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast, scene: Scene
) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).desired_state = DesiredState.STOPPED
    before = wishes(database)
    delete(alice)
    assert signed_in("carol").post("/o/acme/restore").status_code == 403
    assert alice.post("/o/acme/restore").status_code == 303
    assert acme(database, cast).state is OrgState.ACTIVE
    # A bot that was stopped before stays so.
    assert wishes(database) == before
    assert alice.get("/o/acme/settings").status_code == 200
    assert alice.post("/o/acme/restore").status_code == 409
    # It may be deleted again, and everybody is told again.
    assert delete(alice) == 303
    with database.reading() as session:
        assert session.query(OutgoingMail).count() == 6


def test_after_the_grace_it_is_too_late(alice: FlaskClient, database: Database, cast: Cast) -> None:
    delete(alice)
    with database.transaction() as session:
        session.get_one(Org, cast.org_id).delete_after = utcnow() - timedelta(seconds=1)
    answer = alice.post("/o/acme/restore")
    assert answer.status_code == 409
    assert "too late" in answer.text
    assert acme(database, cast).state is OrgState.DELETING


def test_deletion_ends_an_offer_of_ownership(alice: FlaskClient, signed_in: SignedIn, cast: Cast) -> None:
    alice.post("/o/acme/transfer", data={"user_id": cast.people["bob"]})
    delete(alice)
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409
    alice.post("/o/acme/restore")
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409

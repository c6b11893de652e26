"""Deletion and restore of an organization: confirmation, bots, mails, pages during the grace period."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, DesiredState, Event, InviteState, Org, OrgState, OutgoingMail, User, utcnow
from portal.password_hashing import hash_password
from portal.queue import connect, open_queue, updates_queue_name
from tests.portal.views.inviting import Inviting, follow, join
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

PASSWORD = "a long and boring password"


@pytest.fixture
def alice(signed_in: SignedIn, database: Database, cast: Cast) -> FlaskClient:
    """A browser of the owner, who has a password."""
    stored = hash_password(PASSWORD)
    with database.transaction() as session:
        session.get_one(User, cast.people["alice"]).password_hash = stored
    return signed_in("alice")


def delete(client: FlaskClient, name: str = "Acme", password: str = PASSWORD) -> int:
    """Submit the deletion form and return the status."""
    return client.post("/o/acme/delete", data={"name": name, "password": password}).status_code


def acme(database: Database, cast: Cast) -> Org:
    """Read the current row of Acme."""
    with database.reading() as session:
        return session.get_one(Org, cast.org_id)


def read_desired_states(database: Database) -> list[DesiredState]:
    """Read the desired states of the bots, ordered by name."""
    with database.reading() as session:
        return [bot.desired_state for bot in session.query(Bot).order_by(Bot.name)]


@pytest.mark.every_database
def test_page_shows_how_many_bots_and_people_are_affected(alice: FlaskClient, scene: Scene) -> None:
    page = alice.get("/o/acme/delete").text
    assert "3 bots will stop immediately" in page
    assert "3 people in Acme will get an email" in page


@pytest.mark.parametrize(
    ("name", "password", "error"),
    [
        ("acme", PASSWORD, "exactly: Acme"),
        ("Acme", "wrong password, and long", "Wrong password"),
        ("", PASSWORD, "Enter the name"),
        ("Acme", "", "Enter your password"),
    ],
)
def test_deletion_needs_the_name_and_the_password(alice: FlaskClient, name: str, password: str, error: str) -> None:
    answer = alice.post("/o/acme/delete", data={"name": name, "password": password})
    assert answer.status_code == 422
    assert error in answer.text
    assert PASSWORD not in answer.text
    assert "is being deleted" not in alice.get("/o/acme/").text


def test_password_attempts_are_limited(alice: FlaskClient) -> None:
    assert [delete(alice, password="a wrong password") for _ in range(11)] == [422] * 10 + [429]


@pytest.mark.every_database
def test_deletion_stops_the_bots_and_mails_all_members(
    alice: FlaskClient, database: Database, cast: Cast, scene: Scene
) -> None:
    assert delete(alice) == 303
    org = acme(database, cast)
    assert org.state is OrgState.DELETING
    assert org.delete_after is not None
    assert timedelta(days=6, hours=23) < org.delete_after - utcnow() <= timedelta(days=7)
    assert read_desired_states(database) == [DesiredState.STOPPED] * 3
    with database.reading() as session:
        assert {mail.to for mail in session.query(OutgoingMail)} == {
            "alice@example.com",
            "bob@example.com",
            "carol@example.com",
        }
        (event,) = session.query(Event).filter_by(tag="org.deletion_requested")
        assert (event.actor_id, event.data["bots"]) == (cast.people["alice"], 3)
    assert delete(alice) == 409


@pytest.mark.every_database
def test_deletion_and_restore_enqueue_a_job_per_bot(alice: FlaskClient, scene: Scene, redis_url: str) -> None:
    def take_jobs() -> list[tuple[str, list[str]]]:
        with connect(redis_url) as redis:
            queue = open_queue(redis, updates_queue_name(scene.node))
            jobs = [(str(job.func_name), list(job.args)) for job in queue.jobs]
            redis.flushall()
            return sorted(jobs)

    every_bot = sorted(("daemon.jobs.apply_desired_state", [bot_id]) for bot_id in scene.bots)
    delete(alice)
    assert take_jobs() == every_bot
    alice.post("/o/acme/restore")
    assert take_jobs() == every_bot


def test_deleted_organization_can_be_read_but_not_changed(
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


@pytest.mark.every_database
def test_restore_brings_back_the_previous_state(
    alice: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast, scene: Scene
) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).desired_state = DesiredState.STOPPED
    before = read_desired_states(database)
    delete(alice)
    assert signed_in("carol").post("/o/acme/restore").status_code == 403
    assert alice.post("/o/acme/restore").status_code == 303
    assert acme(database, cast).state is OrgState.ACTIVE
    # A bot that was stopped before stays stopped.
    assert read_desired_states(database) == before
    assert alice.get("/o/acme/settings").status_code == 200
    assert alice.post("/o/acme/restore").status_code == 409
    # It can be deleted again, and all members are mailed again.
    assert delete(alice) == 303
    with database.reading() as session:
        assert session.query(OutgoingMail).count() == 6


def test_restore_after_the_grace_period_is_refused(alice: FlaskClient, database: Database, cast: Cast) -> None:
    delete(alice)
    with database.transaction() as session:
        session.get_one(Org, cast.org_id).delete_after = utcnow() - timedelta(seconds=1)
    answer = alice.post("/o/acme/restore")
    assert answer.status_code == 409
    assert "too late" in answer.text
    assert acme(database, cast).state is OrgState.DELETING


def test_deletion_ends_the_offer_of_ownership(alice: FlaskClient, signed_in: SignedIn, cast: Cast) -> None:
    offer = {"user_id": cast.people["bob"], "password": PASSWORD}
    assert alice.post("/o/acme/transfer", data=offer).status_code == 303
    delete(alice)
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409
    alice.post("/o/acme/restore")
    assert signed_in("bob").post("/o/acme/transfer/accept").status_code == 409


def test_invites_stay_revoked_after_a_restore(alice: FlaskClient, inviting: Inviting) -> None:
    mailed, copied = inviting.invite(), inviting.copy_link()
    delete(alice)
    assert inviting.latest_invite().state is InviteState.REVOKED
    (event,) = inviting.events("invite.revoked")
    assert event.data["because"] == "organization deleted"
    assert alice.post("/o/acme/restore").status_code == 303
    for link in (mailed, copied):
        nora = inviting.new_client()
        assert "withdrawn" in follow(nora, link).text
        assert join(nora).status_code == 410
    assert inviting.role_of() is None
    # Another invite to the same email works.
    inviting.mailer.deliver()
    nora = inviting.new_client()
    follow(nora, inviting.invite())
    assert join(nora).status_code == 303

"""Page "Update all": several bots of an organization are updated to the releases on the page, or none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, BotUpdate, DesiredState, PolledImage, Rollout, Trigger, User
from tests import factories
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, release

pytestmark = pytest.mark.requests

ADDRESS = "/o/acme/updates"


def update_all(client: FlaskClient, scene: Scene, bots: Sequence[str]) -> int:
    """Submit the form of the page with some of its bots, and return the status."""
    form = {f"digest-{bot_id}": scene.new_digest for bot_id in bots}
    return client.post(ADDRESS, data={"bots": list(bots), **form}).status_code


def list_updating(database: Database) -> set[str]:
    """Return the ids of the bots that have an update."""
    with database.reading() as session:
        return {bot_id for (bot_id,) in session.query(BotUpdate.bot_id)}


@pytest.mark.every_database
def test_chosen_bots_are_updated_and_leave_the_list(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    alice = signed_in("alice")
    assert "Update all (3)…" in alice.get("/o/acme/").text
    assert "Update all" not in signed_in("bob").get("/o/acme/").text
    assert alice.get(ADDRESS).text.count('name="bots"') == 3

    assert update_all(alice, scene, scene.bots[:2]) == 303
    assert list_updating(database) == set(scene.bots[:2])
    with database.reading() as session:
        assert {(made.trigger, made.ignore_windows) for made in session.query(Rollout)} == {(Trigger.TENANT, True)}
    assert alice.get(ADDRESS).text.count('name="bots"') == 1
    assert "Update all" not in alice.get("/o/acme/").text
    assert update_all(alice, scene, scene.bots) == 409, "two of them are being updated"
    assert list_updating(database) == set(scene.bots[:2])


@pytest.mark.every_database
def test_if_one_bot_is_refused_none_is_updated(
    signed_in: SignedIn, scene: Scene, database: Database, cast: Cast
) -> None:
    alice, (first, second, third) = signed_in("alice"), scene.bots
    with database.transaction() as session:
        other = factories.org(session, session.get_one(User, cast.people["mallory"]), "other")
        stranger = factories.bot(session, other, session.get_one(Bot, first).node).id
        session.get_one(Bot, third).desired_state = DesiredState.STOPPED
    assert alice.get(ADDRESS).text.count('name="bots"') == 2
    assert update_all(alice, scene, []) == 422
    assert update_all(alice, scene, [first, third]) == 409
    assert update_all(alice, scene, [first, stranger]) == 409
    signed_in("root").post("/admin/mode", data={"mode": "paused"})
    assert "disabled>Update chosen bots" in alice.get(ADDRESS).text
    assert update_all(alice, scene, [first]) == 409
    signed_in("root").post("/admin/mode", data={"mode": "auto"})

    with database.transaction() as session:
        session.query(PolledImage).one().release_id = release(session, "1.6.0", "e", 0).id
    answer = alice.post(ADDRESS, data={"bots": [second], f"digest-{second}": scene.new_digest})
    assert answer.status_code == 409
    assert "1.6.0 was released in the meantime" in answer.text
    assert list_updating(database) == set()

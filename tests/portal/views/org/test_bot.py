"""A bot's pages: badge, changelog, "Update now", "Later"."""

from datetime import timedelta

from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, PolledImage, Rollout, Trigger, UpdateNotice, UpdateState
from tests.support.cast import SignedIn
from tests.support.scene import Scene, release, rollout


def address(scene: Scene, page: str = "") -> str:
    """Of the first bot."""
    return f"/o/acme/bots/{scene.bots[0]}{page}"


def press(client: FlaskClient, scene: Scene) -> int:
    """Press "Update now" under the changelog of 1.5.0."""
    return client.post(address(scene, "/update"), data={"digest": scene.new_digest}).status_code


def test_the_badge_shows_where_a_newer_release_exists(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).current_digest = scene.new_digest
    assert signed_in("bob").get("/o/acme/").text.count("Update available: 1.5.0") == 2


def test_members_read_the_changelog_but_see_no_button(signed_in: SignedIn, scene: Scene) -> None:
    page = signed_in("bob").get(address(scene, "/changelog")).text
    assert "What 1.5.0 brings" in page
    assert "&lt;b&gt;not bold" in page
    assert "Update now" not in page
    assert "Update now" in signed_in("carol").get(address(scene, "/changelog")).text


def test_pressed_twice_and_by_two_people_it_is_one_update(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    alice, carol = signed_in("alice"), signed_in("carol")
    assert [press(alice, scene), press(alice, scene), press(carol, scene)] == [303, 303, 303]
    with database.reading() as session:
        made = session.query(Rollout).one()
    assert (made.trigger, made.strategy) == (Trigger.TENANT, "single_bot")
    page = alice.get("/o/acme/").text
    assert "queued" in page
    assert page.count("Update available") == 2


def test_an_operator_acts_as_the_provider(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    press(signed_in("root"), scene)
    with database.reading() as session:
        assert session.query(Rollout).one().trigger == Trigger.OPERATOR


def test_a_newer_release_meanwhile_is_shown_instead(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    alice = signed_in("alice")
    with database.transaction() as session:
        newer = release(session, "1.6.0", "e", 0)
        session.query(PolledImage).one().release_id = newer.id
    answer = alice.post(address(scene, "/update"), data={"digest": scene.new_digest})
    assert answer.status_code == 409
    assert "Meanwhile 1.6.0 came out" in answer.text
    assert "What 1.6.0 brings" in answer.text
    assert "What 1.5.0 brings" in answer.text
    assert newer.digest in answer.text
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


def test_a_paused_fleet_disables_the_button_and_says_why(signed_in: SignedIn, scene: Scene) -> None:
    signed_in("root").post("/admin/mode", data={"mode": "paused"})
    page = signed_in("alice").get(address(scene, "/changelog")).text
    assert "disabled>Update now" in page
    assert "paused by your provider" in page
    assert press(signed_in("alice"), scene) == 409


def test_later_is_remembered_for_one_person_and_the_badge_stays(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    alice = signed_in("alice")
    for _ in range(2):
        assert alice.post(address(scene, "/later"), data={"digest": scene.new_digest}).status_code == 303
    with database.reading() as session:
        assert session.query(UpdateNotice).one().release_id == scene.new
    cards = alice.get("/o/acme/").text
    assert (cards.count("Update available"), cards.count("asked again")) == (3, 1)
    assert "asked again" in alice.get(address(scene)).text
    assert "asked again" not in signed_in("carol").get("/o/acme/").text


def test_later_ends_after_two_days_or_with_a_newer_release(
    signed_in: SignedIn, scene: Scene, database: Database
) -> None:
    alice = signed_in("alice")
    alice.post(address(scene, "/later"), data={"digest": scene.new_digest})
    with database.transaction() as session:
        session.query(UpdateNotice).one().snoozed_until -= timedelta(hours=48)
    assert "asked again" not in alice.get("/o/acme/").text

    alice.post(address(scene, "/later"), data={"digest": scene.new_digest})
    with database.transaction() as session:
        session.query(PolledImage).one().release_id = release(session, "1.6.0", "e", 0).id
    cards = alice.get("/o/acme/").text
    assert "Update available: 1.6.0" in cards
    assert "asked again" not in cards


def test_a_bot_that_went_back_says_so(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.ROLLED_BACK])
    page = signed_in("bob").get(address(scene)).text
    assert "Still on version 1.4.0, your data is as it was at" in page
    assert "answered 503" in page
    assert "migration 7 failed" in page


def test_an_operator_clears_a_bot_that_was_put_right(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).needs_attention = "docker start 1234"
    alice, root = signed_in("alice"), signed_in("root")
    assert "Clear…" not in alice.get(address(scene)).text
    assert "Clear…" in root.get(address(scene)).text

    refused = root.post(address(scene, "/clear"), data={"reason": ""})
    assert (refused.status_code, "Say why" in refused.text) == (422, True)
    assert root.post(address(scene, "/clear"), data={"reason": "restored it"}).status_code == 303

    page = root.get(address(scene)).text
    assert "Clear…" not in page
    assert "put right by hand: restored it" in page
    assert root.post(address(scene, "/clear"), data={"reason": "again"}).status_code == 409


def test_unprotected_paths_are_named(signed_in: SignedIn, scene: Scene) -> None:
    bob = signed_in("bob")
    assert "Not protected by snapshots" not in bob.get(address(scene)).text
    assert "/srv/shared" in bob.get(f"/o/acme/bots/{scene.bots[1]}").text


def test_a_release_without_notes_can_be_taken(signed_in: SignedIn, scene: Scene, database: Database) -> None:
    from portal.models import Release

    with database.transaction() as session:
        session.get_one(Release, scene.new).changelog = None
    page = signed_in("alice").get(address(scene, "/changelog")).text
    assert "came without notes" in page
    assert "Update now" in page

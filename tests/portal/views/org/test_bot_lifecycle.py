"""Tests of the pages of a bot that is being created or removed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from portal.database import Database
from portal.models import Bot, BotPhase, BotState, DesiredState, utcnow
from portal.queue import open_queue, updates_queue_name
from tests import factories
from tests.support.cast import SignedIn
from tests.support.scene import Scene


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


def test_operator_tries_again(signed_in: SignedIn, app: Flask, database: Database, scene: Scene) -> None:
    page = creating(database, scene)
    with database.transaction() as session:
        factories.bot_template(session)
    assert signed_in("root").post(f"{page}/retry-creation").status_code == 303
    bot = load_bot(database, scene)
    assert (bot.creation_error, bot.creation_attempts) == (None, 0)
    assert len(open_queue(app.extensions["redis"], updates_queue_name(bot.node_id))) == 1


@pytest.mark.parametrize(("choice", "keep_data"), [("keep", True), ("delete", False)])
def test_operator_removes_and_restores_a_bot(  # noqa: PLR0917 - fixtures come by name
    signed_in: SignedIn, app: Flask, database: Database, scene: Scene, choice: str, keep_data: bool
) -> None:
    page, root = change(database, scene, container_id="c" * 64), signed_in("root")
    assert root.post(f"{page}/remove", data={"data_choice": choice}).status_code == 303
    bot = load_bot(database, scene)
    assert (bot.phase, bot.keep_data, bot.desired_state) == (BotPhase.REMOVING, keep_data, DesiredState.STOPPED)
    assert len(open_queue(app.extensions["redis"], updates_queue_name(bot.node_id))) == 1
    text = signed_in("bob").get(page).text
    assert ("Its data is kept" in text) is keep_data
    assert "Remove…" not in text
    assert root.post(f"{page}/restore").status_code == 303
    assert load_bot(database, scene).phase is BotPhase.ACTIVE


def test_removal_needs_a_choice_about_the_data(signed_in: SignedIn, database: Database, scene: Scene) -> None:
    page = change(database, scene, container_id="c" * 64)
    answer = signed_in("root").post(f"{page}/remove", data={})
    assert answer.status_code == 422
    assert "Choose what happens to the data." in answer.text
    assert load_bot(database, scene).phase is BotPhase.ACTIVE


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

"""Tests of "Continue rollback" and "Mark as fixed" on the page of a bot."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotUpdate, Snapshot, SnapshotState, UpdateState, Verdict
from portal.queue import connect, open_queue, updates_queue_name
from tests.support.cast import SignedIn
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.requests


@pytest.fixture
def url(scene: Scene, database: Database) -> str:
    """The page of a bot whose rollback failed."""
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.NEEDS_ATTENTION])
        update = session.scalars(sa.select(BotUpdate)).one()
        update.verdict, update.old_container_id = Verdict.FAILED, update.bot.container_id
        update.bot.needs_attention = "docker start 1234"
    return f"/o/acme/bots/{scene.bots[0]}"


def load_update(database: Database) -> BotUpdate:
    """Return the update."""
    with database.reading() as session:
        return session.scalars(sa.select(BotUpdate)).one()


@pytest.mark.every_database
def test_operator_continues_a_rollback_once(
    signed_in: SignedIn, scene: Scene, database: Database, url: str, redis_url: str
) -> None:
    root = signed_in("root")
    assert "Continue rollback of Paperclip 1" in root.get(url).text

    assert root.post(f"{url}/recover").status_code == 303

    update = load_update(database)
    assert (update.state, update.ended_at) == (UpdateState.RUNNING, None)
    (job,) = open_queue(connect(redis_url), updates_queue_name(scene.node)).jobs
    assert (job.func_name, job.args) == ("daemon.jobs.update_bot", [update.id])
    page = root.get(url).text
    assert "The rollback is being continued. This page shows the result." in page
    assert "Continue rollback of" not in page
    assert "Mark as fixed" not in page
    again = root.post(f"{url}/recover")
    assert (again.status_code, "is being continued already" in again.text) == (409, True)
    assert "The rollback of Paperclip 1 is being continued" in root.get("/admin/events").text


def test_customers_cannot_continue_a_rollback(signed_in: SignedIn, database: Database, url: str) -> None:
    for name, status in {"alice": 403, "carol": 403, "bob": 403, "mallory": 403}.items():
        client = signed_in(name)
        assert client.post(f"{url}/recover").status_code == status
        assert "Continue rollback" not in client.get(url).text
    assert load_update(database).state is UpdateState.NEEDS_ATTENTION


def test_page_says_what_is_missing_instead_of_a_button(signed_in: SignedIn, database: Database, url: str) -> None:
    with database.transaction() as session:
        update = session.scalars(sa.select(BotUpdate)).one()
        lost = Snapshot(update_id=update.id, node_id=update.bot.node_id, volume="data", archive="/archives/data.tar")
        lost.state = SnapshotState.DELETED
        session.add(lost)
    root = signed_in("root")
    page = root.get(url).text
    assert "There is no verified archive of the volume data" in page
    assert "Continue rollback" not in page
    assert "Mark as fixed…" in page
    assert root.post(f"{url}/recover").status_code == 409


def test_bot_that_is_fixed_has_no_such_buttons(signed_in: SignedIn, database: Database, url: str) -> None:
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(needs_attention=None))
    page = signed_in("root").get(url).text
    assert "Continue rollback" not in page
    assert "Mark as fixed" not in page

"""Forms that a person has filled in are never replaced by a refresh, in a real browser."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from portal.database import Database
from portal.models import Bot, BotState, BotUpdate, UpdateState, move, utcnow
from tests.browser.conftest import Open
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.browser


def test_abort_form_keeps_what_was_entered(visit: Open, page: Page, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.RUNNING, UpdateState.PENDING])
    visit("root", f"/admin/rollouts/{made.id}")
    page.get_by_text("Abort…").click()
    page.get_by_label("Reason").fill("eats data")
    page.get_by_label("Quarantine").check()
    with database.transaction() as session:
        running = session.scalars(sa.select(BotUpdate).where(BotUpdate.state == UpdateState.RUNNING)).one()
        move(session, running, UpdateState.RUNNING, UpdateState.FAILED, ended_at=utcnow(), error="The disk is full")
    # The parts around the form show the change, so the form could have been replaced, too.
    expect(page.locator("#updates")).to_contain_text("The disk is full")
    page.wait_for_load_state("networkidle")
    expect(page.get_by_label("Reason")).to_have_value("eats data")
    expect(page.get_by_label("Quarantine")).to_be_checked()
    expect(page.get_by_role("button", name="Retry failed bots")).to_have_count(0)

    page.get_by_text("Abort…").click()  # closes it
    expect(page.get_by_role("button", name="Retry failed bots")).to_be_visible()
    page.get_by_text("Abort…").click()
    expect(page.get_by_label("Reason")).to_have_value("")


@pytest.mark.parametrize(
    ("summary", "field", "text"),
    [("Remove…", "Name of the bot", "Paper"), ("Mark as fixed…", "Reason", "moved the archive")],
)
def test_forms_of_a_bot_keep_what_was_entered(  # noqa: PLR0917 - fixtures come by name
    visit: Open, page: Page, scene: Scene, database: Database, summary: str, field: str, text: str
) -> None:
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).needs_attention = "docker start 1234"
    visit("root", f"/o/acme/bots/{scene.bots[0]}")
    page.get_by_text(summary).click()
    page.get_by_label(field).fill(text)
    with database.transaction() as session:
        bot = session.get_one(Bot, scene.bots[0])
        bot.state, bot.state_detail = BotState.UNHEALTHY, "answered 503"
    expect(page.locator("#status")).to_contain_text("answered 503")
    page.wait_for_load_state("networkidle")
    expect(page.get_by_label(field)).to_have_value(text)
    expect(page.get_by_label(field)).to_be_focused()

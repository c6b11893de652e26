"""The button that continues a failed rollback, in a real browser."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from portal.database import Database
from portal.models import BotUpdate, Step, UpdateState, Verdict, utcnow
from portal.services.rollouts import outcomes
from portal.services.rollouts.outcomes import Outcome
from tests.browser.conftest import Open
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.browser


def test_operator_continues_a_rollback_and_sees_the_result(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.NEEDS_ATTENTION])
        update = session.scalars(sa.select(BotUpdate)).one()
        update.verdict, update.old_container_id = Verdict.FAILED, update.bot.container_id
        update.step, update.bot.needs_attention = Step.ROLLBACK, "docker start 1234"
    visit("root", f"/o/acme/bots/{scene.bots[0]}")
    button = page.get_by_role("button", name="Continue rollback of Paperclip 1")
    expect(button).to_be_hidden()
    page.get_by_text("Continue rollback…").click()
    button.click()
    expect(page.get_by_role("status")).to_contain_text("The rollback of Paperclip 1 is being continued")
    expect(page.locator("#attention")).to_contain_text("This page shows the result")
    expect(page.locator("#status")).to_contain_text("rolling back")

    with database.transaction() as session:
        update = session.scalars(sa.select(BotUpdate)).one()
        assert (update.state, update.bot.container_id) == (UpdateState.RUNNING, update.old_container_id)
        rolled_back = Outcome(state=UpdateState.ROLLED_BACK)
        container = str(update.old_container_id)
        outcomes.mark_rolled_back(session, update, rolled_back, container, None, answers=True, now=utcnow())
    expect(page.locator("#attention")).to_be_empty()
    expect(page.locator("#status")).to_contain_text("Still on version 1.4.0")
    expect(page.locator("#history")).to_contain_text("Paperclip 1 was recovered")

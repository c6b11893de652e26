"""Choosing the bots of a new rollout in a real browser."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, Route, expect

from portal.database import Database
from portal.models import Bot, BotUpdate
from tests import factories
from tests.browser.conftest import Open
from tests.support.scene import Scene

pytestmark = pytest.mark.browser


def test_chosen_bots_stay_chosen_and_only_they_are_updated(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        first = session.get_one(Bot, scene.bots[0])
        for number in range(30):
            factories.bot(
                session,
                first.org,
                first.node,
                name=f"Stapler {number:02}",
                subdomain=f"stapler-{number}",
                current_digest=first.current_digest,
                container_id=f"{number:063}f",
            )
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    visit("root", f"/admin/rollouts/new?release={scene.new}")
    expect(page.get_by_role("button", name="Start rollout")).to_be_disabled()
    page.get_by_label("Only the bots selected below").check()
    expect(page.get_by_role("heading", name="Bots to update")).to_be_visible()
    page.get_by_label("Paperclip 2").check()
    expect(page.get_by_role("button", name="Start rollout of 1 bot")).to_be_enabled()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#choice")).to_contain_text("page 2 of 2")
    search = page.get_by_label("Search bots")
    search.fill("stapler 29")
    expect(page.locator(".choice-list li")).to_have_count(1)
    # A bot that is checked while the list is on its way stays checked.
    held: list[Route] = []
    # The library stores an attribute in the function, which a method of a list does not allow.
    page.route("**/preview?part=choice", lambda route: held.append(route), times=1)  # noqa: PLW0108
    with page.expect_request("**/preview?part=choice"):
        search.fill("stapler 2")
    page.get_by_label("Stapler 29").check()
    held[0].continue_()
    expect(page.locator(".choice-list li")).to_have_count(10)
    expect(page.get_by_label("Stapler 29")).to_be_checked()
    # Until htmx has settled the new list, Enter loads the whole page, as without scripts.
    expect(page.locator(".htmx-added, .htmx-settling")).to_have_count(0)
    # Enter searches; it neither starts the rollout nor loses what was chosen.
    search.press("Enter")
    expect(page.locator("#outlook")).to_contain_text("Stapler 29 of")
    page.get_by_role("button", name="Start rollout of 2 bots").click()

    expect(page.locator("#progress")).to_contain_text("0 of 2 updated")
    with database.reading() as session:
        names = session.scalars(sa.select(Bot.name).join(BotUpdate, BotUpdate.bot_id == Bot.id))
        assert sorted(names) == ["Paperclip 2", "Stapler 29"]
    # A preview that a later change or the next page replaces is aborted, which htmx logs.
    assert [error for error in errors if not error.startswith(("htmx:afterRequest", "htmx:sendAbort"))] == []

"""Test of what surrounds a page in a real browser: title and icon of the tab, and the menu of organizations."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from portal.database import Database
from portal.models import Bot, BotState, BotUpdate, UpdateState, utcnow
from tests.browser.conftest import Open
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.browser


def test_tab_shows_what_runs_or_failed_and_the_menu_closes(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        rollout(session, scene, [UpdateState.RUNNING])
    visit("alice", "/o/acme/")
    expect(page).to_have_title("◐ Acme · Flotilla")
    icon = page.locator("link[rel=icon]")
    expect(icon).to_have_attribute("href", re.compile(r"icon-running\.svg"))

    menu = page.locator("details.switcher")
    closes: list[Callable[[], None]] = [
        lambda: page.keyboard.press("Escape"),
        lambda: page.get_by_role("heading", name="Acme").click(),
    ]
    for close in closes:
        menu.locator("summary").click()
        expect(menu).to_have_attribute("open", "")
        close()
        expect(menu).not_to_have_attribute("open", "")

    with database.transaction() as session:
        session.execute(sa.update(Bot).where(Bot.id == scene.bots[1]).values(state=BotState.UNHEALTHY))
    expect(page).to_have_title("✕ Acme · Flotilla")
    expect(icon).to_have_attribute("href", re.compile(r"icon-failed\.svg"))
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(state=BotState.RUNNING))
        session.execute(sa.update(BotUpdate).values(state=UpdateState.UPDATED, ended_at=utcnow()))
    expect(page).to_have_title("Acme · Flotilla")
    expect(icon).to_have_attribute("href", re.compile(r"/icon\.svg"))

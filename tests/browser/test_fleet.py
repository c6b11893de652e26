"""Tests of the fleet page in a real browser: filters without a reload, and actions for all bots of the page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from portal.database import Database
from portal.models import BotLabel
from tests.browser.conftest import Open
from tests.support.scene import Scene

pytestmark = pytest.mark.browser


def test_all_bots_of_a_search_are_labelled(visit: Open, page: Page, scene: Scene, database: Database) -> None:
    visit("root", "/admin/fleet")
    page.get_by_role("searchbox", name="Search bots").fill("paperclip 2")
    expect(page.get_by_role("status").filter(has_text="1 bot")).to_be_visible()
    page.get_by_role("searchbox", name="Search bots").fill("paperclip")
    expect(page.get_by_role("status").filter(has_text="3 bots")).to_be_visible()
    # The search is in the address, so that it can be shared.
    expect(page).to_have_url(re.compile(r"q=paperclip"))

    # Another search replaces the list, although its form was filled in.
    page.get_by_role("checkbox", name="Select Paperclip 1").check()
    page.get_by_role("combobox", name="Condition").select_option("healthy")
    expect(page).to_have_url(re.compile(r"show=healthy"))
    page.get_by_role("checkbox", name="Select all bots").check()
    page.get_by_role("checkbox", name="Select Paperclip 2").uncheck()
    page.get_by_text("Labels…").click()
    page.locator("#bulk-label").fill("pilot")
    page.get_by_role("button", name="Add label").click()
    expect(page.get_by_role("link", name="pilot", exact=True)).to_have_count(2)
    expect(page).to_have_url(re.compile(r"q=paperclip"))
    with database.reading() as session:
        assert {label.bot_id for label in session.query(BotLabel)} == {scene.bots[0], scene.bots[2]}

"""Search and keyboard shortcuts in a real browser, by keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.support.scene import Scene

pytestmark = pytest.mark.browser


def test_search_by_keyboard_finds_and_single_keys_can_be_switched_off(
    visit: Open, page: Page, portal: str, scene: Scene
) -> None:
    visit("root", "/admin/events")

    page.keyboard.press("/")
    expect(page.locator("dialog #everything")).to_be_focused()
    page.keyboard.type("acme", delay=150)  # as a person types
    expect(page.locator("dialog #search-results").get_by_role("link", name="Acme")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    page.keyboard.press("g")
    page.keyboard.press("f")
    expect(page).to_have_url(f"{portal}/admin/fleet")

    page.keyboard.press("?")
    page.get_by_label("Use shortcuts with a single key").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#dialog")).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.locator("dialog #everything")).to_be_focused()
    page.keyboard.type("acme", delay=150)  # as a person types
    page.keyboard.press("Enter")
    expect(page.locator("dialog #search-results").get_by_role("link", name="Acme")).to_be_visible()

"""The member sync on the team page in a real browser: it refreshes without touching forms, disclosures and focus."""

from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from portal.database import Database
from portal.models import Bot, MembershipRole, MemberSync, Org, SyncRole, SyncState, utcnow
from portal.settings import Settings
from tests import factories
from tests.browser.conftest import Open, sign_in
from tests.support import sync_rows
from tests.support.scene import Scene

pytestmark = pytest.mark.browser

BLOCKED: dict[str, Any] = {
    "state": SyncState.BLOCKED,
    "attempts": 3,
    "last_error": "HTTP 401",
    "next_attempt_at": utcnow(),
}


@pytest.fixture(autouse=True)
def console_errors(page: Page) -> list[str]:
    """Collect errors and warnings of the browser."""
    messages: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            messages.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: messages.append(str(error)))
    return messages


@pytest.fixture
def acme(database: Database, scene: Scene) -> Scene:
    """Acme with bob, who is blocked in the first bot and known to the second, and carol, who is known to both."""
    with database.transaction() as session:
        org = session.query(Org).filter_by(slug="acme").one()
        for name in ("bob", "carol"):
            factories.membership(session, org, factories.user(session, name, id=name), MembershipRole.MEMBER)
        first, second = (session.get_one(Bot, bot_id) for bot_id in scene.bots[:2])
        for bot in (first, second):
            sync_rows.connect(session, bot)
            sync_rows.observed(session, bot, "carol")
        sync_rows.pending(session, first, "bob", **BLOCKED)
        sync_rows.observed(session, second, "bob")
    return scene


def test_refresh_keeps_forms_disclosures_and_focus(
    visit: Open, page: Page, acme: Scene, database: Database, console_errors: list[str]
) -> None:
    visit("alice", "/o/acme/team")
    page.evaluate("window.same = true")
    page.get_by_label("Role of Bob", exact=True).select_option("admin")
    page.get_by_label("Email").fill("new@exam")
    bob = page.get_by_role("row", name="Bob")
    bob.locator("summary").click()
    expect(bob.get_by_text("The bot refused this.")).to_be_visible()
    bob.get_by_role("button", name="Retry now: Bob in Paperclip 1").focus()

    with database.transaction() as session:
        for row in session.query(MemberSync).filter_by(user_id="bob"):
            row.state, row.observed_role, row.observed_epoch = SyncState.PENDING, SyncRole.ADMIN, 1
    expect(bob.get_by_text("changing")).to_have_count(3, timeout=10000)

    expect(bob.locator("details")).to_have_attribute("open", "")
    expect(bob.get_by_role("button", name="Retry now: Bob in Paperclip 1")).to_be_focused()
    expect(page.get_by_label("Role of Bob", exact=True)).to_have_value("admin")
    expect(page.get_by_label("Email")).to_have_value("new@exam")
    assert page.evaluate("window.same")
    assert console_errors == []


def test_retry_answers_with_a_message_and_refreshes(
    visit: Open, page: Page, acme: Scene, database: Database, console_errors: list[str]
) -> None:
    visit("alice", "/o/acme/team")
    bob = page.get_by_role("row", name="Bob")
    bob.locator("summary").click()
    with page.expect_response(lambda answer: "part=updates" in answer.url, timeout=10000):
        bob.get_by_role("button", name="Retry now: Bob in Paperclip 1").click()
    expect(page.locator("body > #toast")).to_contain_text("Trying again now.")
    with database.reading() as session:
        assert (
            session.query(MemberSync).filter_by(user_id="bob", state=SyncState.BLOCKED).one().next_attempt_at is None
        )
    assert console_errors == []


def test_removed_member_moves_to_those_whose_access_is_ending(
    visit: Open, page: Page, acme: Scene, database: Database, console_errors: list[str]
) -> None:
    visit("alice", "/o/acme/team")
    page.get_by_label("Role of Bob", exact=True).select_option("admin")
    page.get_by_role("link", name="Remove Carol").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove Carol").click()
    expect(page.locator("#member-count")).to_have_text("2 people")
    ending = page.get_by_role("region", name="Access still ending")
    expect(ending).to_contain_text("carol@example.com")
    expect(ending).to_contain_text("removing")
    with database.transaction() as session:
        for row in session.query(MemberSync).filter_by(user_id="carol"):
            row.state, row.observed_role, row.observed_version = SyncState.SYNCED, SyncRole.NONE, row.desired_version
    expect(page.get_by_role("region", name="Access ended this week")).to_contain_text("Carol", timeout=10000)
    expect(page.get_by_text("Access still ending")).to_have_count(0)
    expect(page.get_by_label("Role of Bob", exact=True)).to_have_value("admin")
    assert console_errors == []


def test_retry_without_javascript(
    browser: Browser, portal: str, settings: Settings, database: Database, acme: Scene
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        sign_in(context, portal, settings, database, "alice")
        page = context.new_page()
        page.goto(f"{portal}/o/acme/team")
        bob = page.get_by_role("row", name="Bob")
        bob.locator("summary").click()
        bob.get_by_role("button", name="Retry now: Bob in Paperclip 1").click()
        expect(page.get_by_text("Trying again now.")).to_be_visible()


def test_list_of_operators_refreshes_and_keeps_the_search(
    visit: Open, page: Page, acme: Scene, database: Database, console_errors: list[str]
) -> None:
    visit("root", "/admin/sync?state=blocked")
    page.get_by_label("Search bots").press_sequentially("clip 1")
    expect(page.locator("#syncs tbody tr")).to_have_count(1)
    with database.transaction() as session:
        session.query(MemberSync).filter_by(user_id="bob", state=SyncState.BLOCKED).one().state = SyncState.PENDING
    expect(page.get_by_text("No matching bots")).to_be_visible(timeout=10000)
    expect(page.get_by_label("Search bots")).to_be_focused()
    expect(page.get_by_label("Search bots")).to_have_value("clip 1")
    page.locator("#state-pending").click()
    expect(page.get_by_role("link", name="Paperclip 1")).to_be_visible()
    expect(page.get_by_label("Search bots")).to_have_value("clip 1")
    assert console_errors == []


def test_confirmation_of_a_resync_stays_open(
    visit: Open, page: Page, acme: Scene, database: Database, console_errors: list[str]
) -> None:
    visit("root", f"/admin/sync/{acme.bots[0]}")
    page.get_by_text("Resync…").click()
    with database.transaction() as session:
        session.query(MemberSync).filter_by(user_id="bob", state=SyncState.BLOCKED).one().attempts = 9
    expect(page.get_by_role("row", name="Bob")).to_contain_text("9", timeout=10000)
    page.get_by_role("button", name="Resync").click()
    expect(page.get_by_text("All members are sent to Paperclip 1 again.")).to_be_visible()
    assert console_errors == []

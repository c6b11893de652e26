"""Tests of team pages and of the organization switch in a real browser."""

import pytest
from playwright.sync_api import Browser, Page, expect

from portal.database import Database
from portal.models import Membership, MembershipRole, Org, User, utcnow
from portal.services.orgs import creation
from portal.settings import Settings
from tests import factories
from tests.browser.conftest import Open, sign_in
from tests.support.scene import Scene

pytestmark = pytest.mark.browser


@pytest.fixture
def acme(database: Database, scene: Scene) -> str:
    """Add bob and carol to Acme and return its id."""
    with database.transaction() as session:
        org = session.query(Org).filter_by(slug="acme").one()
        for name, role in (("bob", MembershipRole.MEMBER), ("carol", MembershipRole.ADMIN)):
            factories.membership(session, org, factories.user(session, name, id=name), role)
        return org.id


def test_role_is_changed_without_reloading_the_page(visit: Open, page: Page, acme: str) -> None:
    visit("alice", "/o/acme/team")
    page.evaluate("window.same = true")
    page.get_by_label("Role of Bob", exact=True).select_option("admin")
    page.get_by_role("button", name="Save the role of Bob").click()
    expect(page.get_by_text("Bob is now an admin.")).to_be_visible()
    expect(page.get_by_label("Role of Bob", exact=True)).to_have_value("admin")
    expect(page.get_by_role("button", name="Save the role of Bob")).to_be_focused()
    assert page.evaluate("window.same")


def test_role_is_changed_without_our_script(visit: Open, page: Page, acme: str) -> None:
    page.route("**/static/app.js*", lambda route: route.abort())
    visit("alice", "/o/acme/team")
    page.get_by_label("Role of Bob", exact=True).select_option("admin")
    with page.expect_response(lambda response: response.request.method == "POST") as answer:
        page.get_by_role("button", name="Save the role of Bob").click()
    assert answer.value.ok
    expect(page.get_by_label("Role of Bob", exact=True)).to_have_value("admin")


def test_members_are_found_while_typing(visit: Open, page: Page, acme: str) -> None:
    visit("alice", "/o/acme/team")
    page.get_by_label("Search people").press_sequentially("car")
    expect(page.get_by_text("1 person")).to_be_visible()
    expect(page.get_by_text("carol@example.com")).to_be_visible()
    expect(page.get_by_text("bob@example.com")).to_be_hidden()


def test_removed_member_is_taken_off_the_open_page(  # noqa: PLR0917 - fixtures come by name
    visit: Open, page: Page, browser: Browser, portal: str, settings: Settings, database: Database, acme: str
) -> None:
    with browser.new_context() as context:
        sign_in(context, portal, settings, database, "bob")
        bobs_page = context.new_page()
        bobs_page.goto(f"{portal}/o/acme/")
        expect(bobs_page.get_by_role("heading", name="Acme")).to_be_visible()

        visit("alice", "/o/acme/team")
        page.get_by_role("link", name="Remove Bob").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Remove Bob from Acme?")
        dialog.get_by_role("button", name="Remove Bob").click()
        expect(dialog).to_be_hidden()
        expect(page.locator("body > #toast")).to_contain_text("Bob was removed from Acme.")
        expect(page.get_by_text("bob@example.com")).to_be_hidden()
        expect(page.get_by_text("carol@example.com")).to_be_visible()

        # The next poll of Bob's page redirects it.
        expect(bobs_page.get_by_text("You were removed from Acme.")).to_be_visible(timeout=10000)
        assert bobs_page.url == f"{portal}/orgs"


def test_concurrent_role_change_is_shown_and_not_overwritten(
    visit: Open, page: Page, database: Database, acme: str
) -> None:
    visit("alice", "/o/acme/team")
    with database.transaction() as session:
        row = session.query(Membership).filter_by(user_id="bob").one()
        row.role, row.version = MembershipRole.ADMIN, row.version + 1
    page.get_by_role("link", name="Remove Bob").wait_for()
    page.get_by_label("Role of Bob", exact=True).select_option("member")
    page.get_by_role("button", name="Save the role of Bob").click()
    expect(page.get_by_text("Another person changed Bob's membership")).to_be_visible()
    expect(page.get_by_label("Role of Bob", exact=True)).to_have_value("admin")


def test_browser_remembers_the_last_organization_until_access_ends(
    visit: Open, page: Page, portal: str, database: Database, acme: str
) -> None:
    with database.transaction() as session:
        alice = session.get_one(User, "alice")
        for name in ("Beta", "Gamma"):
            creation.create_org(session, name, alice, now=utcnow())
    visit("alice", "/o/acme/")
    page.locator(".switcher summary").click()
    page.get_by_role("link", name="Beta").click()
    expect(page.get_by_role("heading", name="Beta")).to_be_visible()
    page.goto(f"{portal}/")
    page.wait_for_url(f"{portal}/o/beta/")

    with database.transaction() as session:
        beta = session.query(Org).filter_by(slug="beta").one()
        session.query(Membership).filter_by(org_id=beta.id).delete()
        beta.owner_id = "carol"
    page.goto(f"{portal}/")
    # The latest organization, as in a browser that remembers none.
    page.wait_for_url(f"{portal}/o/gamma/")
    assert page.evaluate("localStorage.getItem('flotilla:organization')") == "gamma"
    page.goto(f"{portal}/orgs")
    expect(page.get_by_role("link", name="Acme")).to_be_visible()
    assert page.url == f"{portal}/orgs"


def test_team_is_managed_without_javascript(
    browser: Browser, portal: str, settings: Settings, database: Database, acme: str
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        sign_in(context, portal, settings, database, "alice")
        page = context.new_page()
        page.goto(f"{portal}/o/acme/team")
        page.get_by_label("Role of Bob", exact=True).select_option("admin")
        page.get_by_role("button", name="Save the role of Bob").click()
        expect(page.get_by_text("Bob is now an admin.")).to_be_visible()
        page.get_by_role("link", name="Remove Bob").click()
        page.get_by_role("button", name="Remove Bob").click()
        expect(page.get_by_text("Bob was removed from Acme.")).to_be_visible()
        expect(page.get_by_text("bob@example.com")).to_be_hidden()

        page.goto(f"{portal}/o/acme/settings")
        page.get_by_label("Automatic").check()
        page.get_by_label("Preferred hour").select_option("22")
        page.get_by_role("button", name="Save").nth(1).click()
        expect(page.get_by_text("Update settings saved.")).to_be_visible()
        expect(page.get_by_label("Preferred hour")).to_have_value("22")
        expect(page.get_by_text("Next update hour")).to_be_visible()

        page.locator(".switcher summary").click()
        page.get_by_role("link", name="New organization").click()
        page.get_by_label("Name", exact=True).fill("Second")
        page.get_by_role("button", name="Create organization").click()
        expect(page.get_by_role("heading", name="Second")).to_be_visible()

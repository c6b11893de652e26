"""The story of an invite in a real browser: from the team's page through the mail into the organization."""

from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from portal.database import Database
from portal.models import User
from portal.settings import Settings
from tests.browser.conftest import Open, sign_in
from tests.browser.test_every_page import AXE
from tests.portal.views.inviting import NEW, PASSWORD
from tests.support.mail import Mailbox
from tests.support.outbox import Office, Post, bodies
from tests.support.scene import Scene

pytestmark = pytest.mark.browser


@pytest.fixture
def post(database: Database, settings: Settings, portal: str, smtp: Mailbox, scene: Scene) -> Post:
    """A worker that sends the mails of this portal, in which alice owns Acme."""
    office = Office(database, replace(settings, base_url=portal))
    office.serves(smtp)
    return Post(office, smtp)


def open_mail(page: Page, post: Post, label: str) -> None:
    """Read the mail and click the button in it."""
    page.set_content(bodies(post.one_to(NEW))[1])
    page.get_by_role("link", name=label).click()


@pytest.mark.parametrize("script", [True, False])
def test_a_new_person_is_invited_and_lands_in_the_organization(
    browser: Browser, portal: str, settings: Settings, database: Database, post: Post, *, script: bool
) -> None:
    with (
        browser.new_context(java_script_enabled=script) as hers,
        browser.new_context(java_script_enabled=script) as theirs,
    ):
        sign_in(hers, portal, settings, database, "alice")
        team = hers.new_page()
        team.goto(f"{portal}/o/acme/team")
        team.get_by_label("Email").fill(NEW)
        team.get_by_label("Role", exact=True).select_option("admin")
        team.get_by_role("button", name="Invite", exact=True).click()
        expect(team.get_by_text(f"{NEW} is invited.")).to_be_visible()
        line = team.get_by_role("row").filter(has_text=NEW)
        expect(line).to_contain_text("sending")

        page = theirs.new_page()
        open_mail(page, post, "See the invitation")
        expect(page.get_by_role("heading", name="Join Acme")).to_be_visible()
        assert page.url == f"{portal}/invite"
        if not script:
            team.reload()
        # By itself, where a script asks.
        expect(line).to_contain_text("sent", timeout=10000)

        page.get_by_label("Your name").fill("Nora")
        page.get_by_label("New password").fill("short")
        page.get_by_role("button", name="Create the account and join").click()
        expect(page.get_by_text("Use 15 characters or more")).to_be_visible()
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_role("button", name="Create the account and join").click()
        expect(page.get_by_text("Welcome to Acme, Nora.")).to_be_visible()
        expect(page.get_by_role("heading", name="Acme")).to_be_visible()
        assert page.url == f"{portal}/o/acme/"
        team.reload()
        expect(team.get_by_role("row").filter(has_text=NEW)).to_contain_text("Nora")
        expect(team.get_by_text("No invite is pending")).to_be_visible()


def test_focus_stays_on_the_button_that_was_pressed(visit: Open, page: Page, post: Post) -> None:
    visit("alice", "/o/acme/team")
    page.get_by_label("Email").fill(NEW)
    invite = page.get_by_role("button", name="Invite", exact=True)
    invite.click()
    again = page.get_by_role("button", name=f"Send again: the invite to {NEW}")
    expect(again).to_be_visible()
    expect(invite).to_be_focused()

    again.click()
    expect(page.get_by_text(f"A new mail to {NEW} is on its way")).to_be_visible()
    expect(again).to_be_focused()
    post.deliver()
    # The list renews itself.
    expect(page.get_by_role("row").filter(has_text=NEW)).not_to_contain_text("sending", timeout=10000)
    expect(again).to_be_focused()


@pytest.mark.parametrize("script", [True, False])
def test_a_copied_link_leads_through_a_mail(
    browser: Browser, portal: str, settings: Settings, database: Database, post: Post, *, script: bool
) -> None:
    with browser.new_context(java_script_enabled=script) as hers:
        sign_in(hers, portal, settings, database, "alice")
        team = hers.new_page()
        team.goto(f"{portal}/o/acme/team")
        team.get_by_label("Email").fill(NEW)
        team.get_by_role("button", name="Invite", exact=True).click()
        team.get_by_role("button", name=f"Copy link for {NEW}").click()
        link = team.get_by_label("Link", exact=True).input_value()
        assert link.startswith(f"{portal}/invite/")
        post.one_to(NEW)
    with browser.new_context(java_script_enabled=script) as theirs:
        page = theirs.new_page()
        page.goto(link)
        page.get_by_role("button", name="Mail a link to n•••@example.com").click()
        expect(page.get_by_role("heading", name="Look into your mail")).to_be_visible()
        open_mail(page, post, "Go on to the invitation")
        page.get_by_role("button", name="Decline").click()
        expect(page.get_by_role("heading", name="This invitation was declined")).to_be_visible()


def test_a_double_click_on_accept_costs_nobody_the_session(
    visit: Open, page: Page, portal: str, database: Database, post: Post
) -> None:
    with database.transaction() as session:
        session.add(User(id="nora", email=NEW, email_normalized=NEW, name="Nora"))
    visit("alice", "/o/acme/team")
    page.get_by_label("Email").fill(NEW)
    page.get_by_role("button", name="Invite", exact=True).click()
    expect(page.get_by_text(f"{NEW} is invited.")).to_be_visible()
    (link,) = [word for word in bodies(post.one_to(NEW))[0].split() if "/invite/" in word]
    visit("nora", link.removeprefix(portal))
    page.get_by_role("button", name="Accept").dblclick()
    expect(page.get_by_role("heading", name="Acme", exact=True)).to_be_visible()
    page.goto(f"{portal}/o/acme/team")
    expect(page.get_by_role("heading", name="Team")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page_of_an_invite_and_phones_suffice(  # noqa: PLR0917 - fixtures come by name
    visit: Open, page: Page, portal: str, database: Database, post: Post, scheme: str
) -> None:
    found: list[str] = []
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 800})

    def check(name: str) -> None:
        page.evaluate(AXE.read_text())
        violations = page.evaluate("axe.run().then((result) => result.violations)")
        found.extend(f"{name}: {v['id']} {[n['html'][:150] for n in v['nodes']]}" for v in violations)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            found.append(f"{name} is {width} wide")

    visit("alice", "/o/acme/team")
    page.get_by_label("Email").fill(NEW)
    page.get_by_role("button", name="Invite", exact=True).click()
    expect(page.get_by_role("row").filter(has_text=NEW)).to_be_visible()
    check("team")
    (link,) = [word for word in bodies(post.one_to(NEW))[0].split() if "/invite/" in word]
    mailed = link.removeprefix(portal)
    page.get_by_role("button", name=f"Copy link for {NEW}").click()
    expect(page.get_by_label("Link", exact=True)).to_be_visible()
    check("dialog")
    copied = page.get_by_label("Link", exact=True).input_value().removeprefix(portal)

    visit("nobody", mailed)
    check("sign up")
    visit("nobody", copied)
    check("prove")
    page.get_by_role("button", name="Mail a link").click()
    check("mailed")
    visit("alice", mailed)
    check("wrong account")
    with database.transaction() as session:
        session.add(User(id="nora", email=NEW, email_normalized=NEW, name="Nora"))
    visit("nobody", mailed)
    check("sign in")
    visit("nora", mailed)
    check("answer")
    page.get_by_role("button", name="Decline").click()
    check("closed")
    visit("nobody", "/invite")
    check("unknown")
    assert found == [], "\n".join(found)

"""Tests of invites in a real browser, from the team page through the mail to the organization."""

from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from portal.database import Database
from portal.settings import Settings
from tests import factories
from tests.browser.conftest import Open, sign_in
from tests.browser.test_every_page import AXE
from tests.portal.views.inviting import NEW, PASSWORD
from tests.support.mail import Mailbox
from tests.support.outbox import MailDelivery, OutboxWorker, bodies
from tests.support.scene import Scene

pytestmark = pytest.mark.browser


@pytest.fixture
def mailer(database: Database, settings: Settings, portal: str, smtp: Mailbox, scene: Scene) -> MailDelivery:
    """A worker that sends the mails of this portal, in which alice owns Acme."""
    mail_worker = OutboxWorker(database, replace(settings, base_url=portal))
    mail_worker.use_server(smtp)
    return MailDelivery(mail_worker, smtp)


def open_mail(page: Page, mailer: MailDelivery, label: str) -> None:
    """Read the mail and click the button in it."""
    page.set_content(bodies(mailer.deliver_one_to(NEW))[1])
    page.get_by_role("link", name=label).click()


@pytest.mark.parametrize("script", [True, False])
def test_new_user_accepts_an_invite(
    browser: Browser, portal: str, settings: Settings, database: Database, mailer: MailDelivery, *, script: bool
) -> None:
    with (
        browser.new_context(java_script_enabled=script) as inviter,
        browser.new_context(java_script_enabled=script) as invitee,
    ):
        sign_in(inviter, portal, settings, database, "alice")
        team = inviter.new_page()
        team.goto(f"{portal}/o/acme/team")
        team.get_by_label("Email").fill(NEW)
        team.get_by_label("Role", exact=True).select_option("admin")
        team.get_by_role("button", name="Send invite").click()
        expect(team.get_by_text(f"Invite sent to {NEW}.")).to_be_visible()
        line = team.get_by_role("row").filter(has_text=NEW)
        expect(line).to_contain_text("sending")

        page = invitee.new_page()
        open_mail(page, mailer, "Open invitation")
        expect(page.get_by_role("heading", name="Join Acme")).to_be_visible()
        assert page.url == f"{portal}/invite"
        if not script:
            team.reload()
        # With JavaScript the row updates automatically.
        expect(line).to_contain_text("sent", timeout=10000)

        page.get_by_label("Your name").fill("Nora")
        page.get_by_label("New password").fill("short")
        page.get_by_role("button", name="Create account and join").click()
        expect(page.get_by_text("Use 15 characters or more")).to_be_visible()
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_role("button", name="Create account and join").click()
        expect(page.get_by_text("Welcome to Acme, Nora.")).to_be_visible()
        expect(page.get_by_role("heading", name="Acme")).to_be_visible()
        assert page.url == f"{portal}/o/acme/"
        team.reload()
        expect(team.get_by_role("row").filter(has_text=NEW)).to_contain_text("Nora")
        expect(team.get_by_text("No pending invites")).to_be_visible()


def test_focus_stays_on_the_button_that_was_pressed(visit: Open, page: Page, mailer: MailDelivery) -> None:
    visit("alice", "/o/acme/team")
    page.get_by_label("Email").fill(NEW)
    invite = page.get_by_role("button", name="Send invite")
    invite.click()
    again = page.get_by_role("button", name=f"Send again: invite to {NEW}")
    expect(again).to_be_visible()
    expect(invite).to_be_focused()

    again.click()
    expect(page.get_by_text(f"Invite sent to {NEW} again")).to_be_visible()
    expect(again).to_be_focused()
    mailer.deliver()
    # The list updates automatically.
    expect(page.get_by_role("row").filter(has_text=NEW)).not_to_contain_text("sending", timeout=10000)
    expect(again).to_be_focused()


@pytest.mark.parametrize("script", [True, False])
def test_copied_link_requires_a_mail_before_joining(
    browser: Browser, portal: str, settings: Settings, database: Database, mailer: MailDelivery, *, script: bool
) -> None:
    with browser.new_context(java_script_enabled=script) as inviter:
        sign_in(inviter, portal, settings, database, "alice")
        team = inviter.new_page()
        team.goto(f"{portal}/o/acme/team")
        team.get_by_label("Email").fill(NEW)
        team.get_by_role("button", name="Send invite").click()
        team.get_by_role("button", name=f"Copy link for {NEW}").click()
        link = team.get_by_label("Link", exact=True).input_value()
        assert link.startswith(f"{portal}/invite/")
        mailer.deliver_one_to(NEW)
    with browser.new_context(java_script_enabled=script) as invitee:
        page = invitee.new_page()
        page.goto(link)
        page.get_by_role("button", name="Send link to n•••@example.com").click()
        expect(page.get_by_role("heading", name="Check your inbox")).to_be_visible()
        open_mail(page, mailer, "Continue to the invitation")
        page.get_by_role("button", name="Decline").click()
        expect(page.get_by_role("heading", name="This invitation was declined")).to_be_visible()


def test_double_click_on_accept_keeps_the_session(
    visit: Open, page: Page, portal: str, database: Database, mailer: MailDelivery
) -> None:
    with database.transaction() as session:
        factories.user(session, "nora", id="nora", email=NEW)
    visit("alice", "/o/acme/team")
    page.get_by_label("Email").fill(NEW)
    page.get_by_role("button", name="Send invite").click()
    expect(page.get_by_text(f"Invite sent to {NEW}.")).to_be_visible()
    (link,) = [word for word in bodies(mailer.deliver_one_to(NEW))[0].split() if "/invite/" in word]
    visit("nora", link.removeprefix(portal))
    page.get_by_role("button", name="Accept").dblclick()
    expect(page.get_by_role("heading", name="Acme", exact=True)).to_be_visible()
    page.goto(f"{portal}/o/acme/team")
    expect(page.get_by_role("heading", name="Team")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_invite_pages_are_accessible_and_fit_phones(  # noqa: PLR0917 - fixtures come by name
    visit: Open, page: Page, portal: str, database: Database, mailer: MailDelivery, scheme: str
) -> None:
    problems: list[str] = []
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 800})

    def check(name: str) -> None:
        page.evaluate(AXE.read_text())
        violations = page.evaluate("axe.run().then((result) => result.violations)")
        problems.extend(f"{name}: {v['id']} {[n['html'][:150] for n in v['nodes']]}" for v in violations)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            problems.append(f"{name} is {width} wide")

    visit("alice", "/o/acme/team")
    page.get_by_label("Email").fill(NEW)
    page.get_by_role("button", name="Send invite").click()
    expect(page.get_by_role("row").filter(has_text=NEW)).to_be_visible()
    check("team")
    (link,) = [word for word in bodies(mailer.deliver_one_to(NEW))[0].split() if "/invite/" in word]
    mailed = link.removeprefix(portal)
    page.get_by_role("button", name=f"Copy link for {NEW}").click()
    expect(page.get_by_label("Link", exact=True)).to_be_visible()
    check("dialog")
    copied = page.get_by_label("Link", exact=True).input_value().removeprefix(portal)

    visit("signed-out", mailed)
    check("sign up")
    visit("signed-out", copied)
    check("prove")
    page.get_by_role("button", name="Send link").click()
    check("mailed")
    visit("alice", mailed)
    check("wrong account")
    with database.transaction() as session:
        factories.user(session, "nora", id="nora", email=NEW)
    visit("signed-out", mailed)
    check("sign in")
    visit("nora", mailed)
    check("answer")
    page.get_by_role("button", name="Decline").click()
    check("closed")
    visit("signed-out", "/invite")
    check("unknown")
    assert problems == [], "\n".join(problems)

"""Tests of live pages and dialogs in a real browser, with the Content-Security-Policy of production."""

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from portal.database import Database
from portal.models import Bot, BotState, BotUpdate, PolledImage, Rollout, RolloutState, UpdateState, move, utcnow
from tests.browser.conftest import Open
from tests.support.scene import Scene, release, rollout

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def console_errors(page: Page) -> list[str]:
    """Collect errors and warnings of the browser, such as violations of the policy."""
    messages: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            messages.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: messages.append(str(error)))
    return messages


def test_rollout_page_updates_until_the_rollout_ends(
    visit: Open, page: Page, scene: Scene, database: Database, console_errors: list[str]
) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED, UpdateState.RUNNING, UpdateState.PENDING])
    visit("root", f"/admin/rollouts/{made.id}")
    page.evaluate("window.notReloaded = true")
    expect(page.get_by_label("Progress", exact=True)).to_contain_text("1 of 3 updated")
    expect(page.locator(".strip [data-state=running]")).to_have_count(1)

    with database.transaction() as session:
        running = session.query(BotUpdate).filter_by(state=UpdateState.RUNNING).one()
        move(session, running, UpdateState.RUNNING, UpdateState.FAILED, ended_at=utcnow(), error="The disk is full")
        pending = session.query(BotUpdate).filter_by(state=UpdateState.PENDING).one()
        move(session, pending, UpdateState.PENDING, UpdateState.RUNNING, started_at=utcnow())
    expect(page.locator(".strip [data-state=failed]")).to_have_count(1)
    expect(page.locator("#updates")).to_contain_text("The disk is full")
    expect(page.get_by_role("button", name="Retry failed")).to_be_visible()

    with database.transaction() as session:
        running = session.query(BotUpdate).filter_by(state=UpdateState.RUNNING).one()
        move(session, running, UpdateState.RUNNING, UpdateState.UPDATED, ended_at=utcnow())
        move(
            session,
            session.get_one(Rollout, made.id),
            RolloutState.RUNNING,
            RolloutState.COMPLETED,
            ended_at=utcnow(),
        )
    expect(page.locator("#progress")).to_contain_text("completed")
    expect(page.locator("#progress")).to_contain_text("2 of 3 updated · 1 failed")
    expect(page.locator("#updates")).to_contain_text("updated 2")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    assert page.evaluate("window.notReloaded")
    # The page has stopped polling.
    assert page.locator("#progress[hx-trigger]").count() == 0
    assert console_errors == []


def test_preview_follows_the_form(visit: Open, page: Page, scene: Scene, console_errors: list[str]) -> None:
    visit("root", f"/admin/rollouts/new?release={scene.new}")
    expect(page.locator("#outlook")).to_contain_text("Nothing to do")
    page.get_by_label("All outdated bots").check()
    expect(page.get_by_role("button", name="Start rollout of 3 bots")).to_be_visible()
    page.get_by_label("Wave size").fill("0")
    expect(page.locator("#outlook")).to_contain_text("must be a whole number")
    page.get_by_label("Wave size").fill("100")
    page.get_by_role("button", name="Start rollout of 3 bots").click()
    expect(page.locator("#progress")).to_contain_text("0 of 3 updated")
    expect(page.get_by_role("status")).to_contain_text("Rollout of 1.5.0 started")
    assert console_errors == []


def test_update_now_from_the_dialog_shows_progress_on_the_card(
    visit: Open, page: Page, scene: Scene, database: Database, console_errors: list[str]
) -> None:
    visit("alice", "/o/acme/")
    offer = page.get_by_role("link", name="Update available: 1.5.0").first
    offer.click()
    dialog = page.get_by_role("dialog", name="What's new for Paperclip 1")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(offer).to_be_focused()

    offer.click()
    page.get_by_role("button", name="Update now").click()
    expect(page.locator(".card").first).to_contain_text("queued")
    with database.transaction() as session:
        update = session.query(BotUpdate).one()
        move(session, update, UpdateState.PENDING, UpdateState.RUNNING, started_at=utcnow(), step="snapshot")
    expect(page.locator(".card").first).to_contain_text("taking a snapshot")
    with database.transaction() as session:
        update = session.query(BotUpdate).one()
        session.get_one(Bot, scene.bots[0]).current_digest = scene.new_digest
        move(session, update, UpdateState.RUNNING, UpdateState.UPDATED, ended_at=utcnow())
    expect(page.locator(".card").first).to_contain_text("Version 1.5.0")
    assert console_errors == []


def test_pressing_enter_twice_on_the_badge_starts_no_update(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What's new for Paperclip 1")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("dialog")).to_be_visible()
    with database.reading() as session:
        assert session.query(Rollout).count() == 0


@pytest.mark.parametrize(
    ("button", "focused"), [("Remind me tomorrow", "Update available: 1.5.0"), ("Update now", "Paperclip 1")]
)
def test_focus_stays_at_the_bot_after_the_dialog(
    visit: Open, page: Page, scene: Scene, button: str, focused: str
) -> None:
    assert scene.bots
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#bots").get_by_role("link", name=focused).first).to_be_focused()


def test_relative_times_count_on(visit: Open, page: Page, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.UPDATED])
        # The page of a rollout that has ended does not poll.
        made.state, made.created_at, made.ended_at = RolloutState.COMPLETED, utcnow(), utcnow()
    page.clock.install()
    visit("root", f"/admin/rollouts/{made.id}")
    expect(page.locator("#content")).to_contain_text("by command line just now")
    page.clock.fast_forward("02:05")
    expect(page.locator("#content")).to_contain_text("by command line 2 min ago")
    page.clock.fast_forward("26:00:00")
    expect(page.locator("#content")).to_contain_text("by command line 1 day ago")


def test_newer_release_replaces_the_changelog_in_the_open_dialog(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    expect(page.get_by_role("button", name="Update now")).to_be_visible()
    with database.transaction() as session:
        session.query(PolledImage).one().release_id = release(session, "1.6.0", "e", 0).id
    page.get_by_role("button", name="Update now").click()
    expect(page.get_by_role("alert")).to_contain_text("1.6.0 was released in the meantime")
    expect(page.get_by_role("dialog")).to_contain_text("What 1.6.0 brings")


def test_form_shows_only_the_parameters_of_the_chosen_strategy(
    visit: Open, page: Page, scene: Scene, console_errors: list[str]
) -> None:
    visit("root", f"/admin/rollouts/new?release={scene.new}")
    expect(page.get_by_label("Wave size")).to_be_visible()
    page.get_by_label("One by one").check()
    expect(page.get_by_label("Wave size")).to_be_hidden()
    expect(page.get_by_label("Retries")).to_be_visible()
    page.get_by_label("Rolling").check()
    expect(page.get_by_label("Wave size")).to_be_visible()
    assert console_errors == []


def test_rejected_click_shows_a_message(visit: Open, page: Page, scene: Scene, database: Database) -> None:
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    expect(page.get_by_role("button", name="Update now")).to_be_visible()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).needs_attention = "archives kept"
    page.get_by_role("button", name="Update now").click()
    # The message is inside the dialog, because everything outside of it is inert.
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("must be repaired by an operator")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("body > #toast")).to_contain_text("must be repaired by an operator")


def test_focus_returns_to_a_link_that_was_replaced_behind_the_dialog(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    offer = page.locator(f"#offer-{scene.bots[0]}")
    offer.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).state = BotState.UNHEALTHY
    expect(page.locator("#bots")).to_contain_text("Unhealthy", timeout=10000)
    page.keyboard.press("Escape")
    expect(offer).to_be_focused()


def test_focus_stays_on_a_bot_while_the_cards_are_replaced(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    link = page.get_by_role("link", name="Paperclip 2", exact=True)
    link.focus()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).state = BotState.UNHEALTHY
    expect(page.locator("#bots")).to_contain_text("Unhealthy", timeout=10000)
    expect(link).to_be_focused()


def test_focus_stays_on_an_element_without_id(visit: Open, page: Page, scene: Scene, database: Database) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.RUNNING, UpdateState.PENDING])
    visit("root", "/admin/rollouts")
    link = page.locator(f"#rollouts a[href='/admin/rollouts/{made.id}']").first
    link.focus()
    with database.transaction() as session:
        move(session, session.get_one(Rollout, made.id), RolloutState.RUNNING, RolloutState.PAUSED)
    expect(page.locator("#rollouts")).to_contain_text("paused", timeout=10000)
    expect(link).to_be_focused()


def test_dialog_opens_as_a_page_without_our_script(visit: Open, page: Page, scene: Scene) -> None:
    page.route("**/static/app.js*", lambda route: route.abort())
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    expect(page.get_by_role("heading", name="What's new for Paperclip 1")).to_be_visible()
    assert page.url.endswith("/changelog")

"""Pages that move without being reloaded, in a real browser under the real Content-Security-Policy."""

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from portal.database import Database
from portal.models import Bot, BotState, BotUpdate, PolledImage, Rollout, RolloutState, UpdateState, move, utcnow
from tests.browser.conftest import Open
from tests.support.scene import Scene, release, rollout

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def quiet(page: Page) -> list[str]:
    """Collect complaints of the browser, such as breaches of the policy."""
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            said.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def test_a_rollout_moves_until_it_has_ended(
    visit: Open, page: Page, scene: Scene, database: Database, quiet: list[str]
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
    # Nothing on the page asks any more: polling ended by itself.
    assert page.locator("#progress[hx-trigger]").count() == 0
    assert quiet == []


def test_the_outlook_follows_the_form(visit: Open, page: Page, scene: Scene, quiet: list[str]) -> None:
    visit("root", f"/admin/rollouts/new?release={scene.new}")
    expect(page.locator("#outlook")).to_contain_text("Nothing to do")
    page.get_by_label("Every bot that is behind").check()
    expect(page.get_by_role("button", name="Start: 3 bots")).to_be_visible()
    page.get_by_label("Wave, in percent").fill("0")
    expect(page.locator("#outlook")).to_contain_text("must be a whole number")
    page.get_by_label("Wave, in percent").fill("100")
    page.get_by_role("button", name="Start: 3 bots").click()
    expect(page.locator("#progress")).to_contain_text("0 of 3 updated")
    expect(page.get_by_role("status")).to_contain_text("has begun")
    assert quiet == []


def test_update_now_from_the_dialog_shows_progress_on_the_card(
    visit: Open, page: Page, scene: Scene, database: Database, quiet: list[str]
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
    assert quiet == []


def test_a_newer_release_replaces_the_changelog_in_the_open_dialog(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    expect(page.get_by_role("button", name="Update now")).to_be_visible()
    with database.transaction() as session:
        session.query(PolledImage).one().release_id = release(session, "1.6.0", "e", 0).id
    page.get_by_role("button", name="Update now").click()
    expect(page.get_by_role("alert")).to_contain_text("Meanwhile 1.6.0 came out")
    expect(page.get_by_role("dialog")).to_contain_text("What 1.6.0 brings")


def test_a_refused_click_is_told_in_the_corner(visit: Open, page: Page, scene: Scene, database: Database) -> None:
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    expect(page.get_by_role("button", name="Update now")).to_be_visible()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).needs_attention = "archives kept"
    page.get_by_role("button", name="Update now").click()
    # Inside the dialog: everything else can neither be read nor reached while it is open.
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("needs a person first")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("body > #toast")).to_contain_text("needs a person first")


def test_focus_comes_back_to_a_link_that_was_renewed_behind_the_dialog(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    offer = page.locator(f"#offer-{scene.bots[0]}")
    offer.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).state = BotState.UNHEALTHY
    expect(page.locator("#bots")).to_contain_text("unhealthy", timeout=10000)
    page.keyboard.press("Escape")
    expect(offer).to_be_focused()


def test_focus_stays_on_a_bot_while_the_cards_are_renewed(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    visit("alice", "/o/acme/")
    link = page.get_by_role("link", name="Paperclip 2")
    link.focus()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[1]).state = BotState.UNHEALTHY
    expect(page.locator("#bots")).to_contain_text("unhealthy", timeout=10000)
    expect(link).to_be_focused()


def test_focus_stays_on_what_has_no_id_but_looks_the_same(
    visit: Open, page: Page, scene: Scene, database: Database
) -> None:
    with database.transaction() as session:
        made = rollout(session, scene, [UpdateState.RUNNING, UpdateState.PENDING])
    visit("root", "/admin/rollouts")
    link = page.locator(f"#rollouts a[href='/admin/rollouts/{made.id}']").first
    link.focus()
    with database.transaction() as session:
        move(session, session.get_one(Rollout, made.id), RolloutState.RUNNING, RolloutState.PAUSED)
    expect(page.locator("#rollouts")).to_contain_text("paused", timeout=10000)
    expect(link).to_be_focused()


def test_what_opens_in_a_dialog_is_a_page_where_our_own_script_could_not_be_loaded(
    visit: Open, page: Page, scene: Scene
) -> None:
    page.route("**/static/app.js*", lambda route: route.abort())
    visit("alice", "/o/acme/")
    page.get_by_role("link", name="Update available: 1.5.0").first.click()
    expect(page.get_by_role("heading", name="What's new for Paperclip 1")).to_be_visible()
    assert page.url.endswith("/changelog")

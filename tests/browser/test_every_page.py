"""Tests of all pages in a real browser: accessibility, width on phones, and use without JavaScript."""

from datetime import time
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    ForkSyncState,
    MembershipState,
    Node,
    Org,
    SyncRole,
    SyncState,
    UpdateState,
    utcnow,
)
from portal.paths import ROOT
from portal.services import fork_syncs
from portal.services.mail import outbox
from portal.settings import Settings
from tests import factories
from tests.browser.conftest import Open, sign_in
from tests.support import sync_rows
from tests.support.scene import Scene, rollout

pytestmark = pytest.mark.browser

_COMMIT = {"id": "a" * 40, "author": "Frida Fork", "subject": "feat: a form with a long name"}
_FINDING = {
    "path": "ui/src/pages/settings/AdapterSettingsForm.tsx",
    "word": "adapterType",
    "lines": [3, 9],
    "suggestion": "{!isHosted && (…)}",
}
CONFLICT = {
    "branch": "main",
    "upstream": "b" * 40,
    "version": None,
    "changes": 12,
    "pull_request": {"number": 7, "url": "https://forge.example/acme/bot/pull/7"},
    "conflict": {
        "commit": _COMMIT,
        "files": [{"path": "ui/src/pages/settings/Form.tsx", "kind": "changed on both sides", "upstream": [_COMMIT]}],
    },
    "people": [_COMMIT],
    "warnings": ["The fork contains merge commits. Check that the sync kept what they changed."],
    "findings": 2,
    "scan": {"files": 12, "folders": ["ui"], "new": [_FINDING], "known": [_FINDING], "gone": []},
}
"""A report with every part of the page about syncs of the fork."""

AXE = ROOT / "node_modules/axe-core/axe.min.js"


@pytest.fixture
def pages(scene: Scene, database: Database) -> list[tuple[str, str]]:
    """Return pairs of a user and the path of a page."""
    states = [UpdateState.UPDATED, UpdateState.ROLLED_BACK, UpdateState.RUNNING]
    with database.transaction() as session:
        made = rollout(session, scene, states)
        acme = session.get_one(Bot, scene.bots[0]).org_id
        org, node = session.get_one(Org, acme), session.get_one(Node, scene.node)
        error = "Health check failed: HTTP 503 after 120 s of probing"
        failed = {"creation_error": error, "creation_attempts": 2, "creation_due_at": utcnow()}
        new = factories.bot(session, org, node, phase=BotPhase.CREATING, **failed).id
        ending = {"phase": BotPhase.REMOVING, "keep_data": True, "remove_after": utcnow()}
        old = factories.bot(session, org, node, **ending).id
        factories.bot_template(session, environment={"TOKEN": "1"}, api_key="1")
        sync_id = fork_syncs.claim(session, time(6), utcnow())
        assert sync_id is not None
        fork_syncs.finish(session, sync_id, ForkSyncState.CONFLICT, utcnow(), report=CONFLICT)
        outbox.queue_mail(
            session, to="new@example.com", template="signup", dedupe_key="one", context={"token_id": "x"}
        )
        add_sync_rows(session, scene)
    bot = f"/o/acme/bots/{scene.bots[1]}"
    return [
        ("root", "/admin/"),
        ("root", "/admin/rollouts"),
        ("root", "/admin/rollouts/new?audience=all&strategy=rolling_wave&release=" + scene.new),
        ("root", f"/admin/rollouts/{made.id}"),
        ("root", f"/admin/rollouts/{made.id}/report"),
        ("root", f"/admin/rollouts/{made.id}/compare"),
        ("root", f"/admin/rollouts/new?audience=named&strategy=immediate&max_retries=2&release={scene.new}"),
        ("root", "/admin/releases"),
        ("root", f"/admin/releases/{scene.old}"),
        ("root", "/admin/fleet"),
        ("root", "/admin/mail/"),
        ("root", "/admin/orgs"),
        ("root", f"/admin/orgs/{acme}"),
        ("root", "/admin/users"),
        ("root", "/admin/users/alice"),
        ("root", "/admin/nodes"),
        ("root", "/admin/events"),
        ("root", "/admin/sync"),
        ("root", f"/admin/sync/{scene.bots[0]}"),
        ("root", f"/admin/sync/{scene.bots[2]}"),
        ("root", "/admin/settings"),
        ("root", "/admin/settings/bot-template"),
        ("root", f"/o/acme/bots/{new}"),
        ("root", f"/o/acme/bots/{old}"),
        ("alice", f"/o/acme/bots/{new}"),
        ("root", "/admin/upstream"),
        ("root", "/nowhere"),
        ("alice", "/orgs"),
        ("alice", "/orgs/new"),
        ("signed-out", "/signup"),
        ("signed-out", "/signup/finish"),
        ("signed-out", "/forgot"),
        ("alice", "/account"),
        ("alice", "/account/delete"),
        ("alice", "/o/acme/"),
        ("alice", "/o/acme/team"),
        ("alice", "/o/acme/team/invite-several"),
        ("alice", "/o/acme/updates"),
        ("alice", "/o/acme/settings"),
        ("alice", "/o/acme/delete"),
        ("alice", "/o/acme/audit"),
        ("alice", bot),
        ("alice", f"{bot}/changelog"),
        ("alice", f"{bot}/logs"),
    ]


def add_sync_rows(session: Session, scene: Scene) -> None:
    """Add people whose sync is blocked and pending, a removed member, and refused removals."""
    acme = session.query(Org).filter_by(slug="acme").one()
    first, second = (session.get_one(Bot, bot_id) for bot_id in scene.bots[:2])
    sync_rows.connect(session, first, refused_removals=7, last_error="The bot refuses the secret (HTTP 401).")
    sync_rows.connect(session, second)
    removed = factories.membership(session, acme, factories.user(session, "rita", id="rita"))
    removed.state = MembershipState.REMOVED
    for user_id, role in (("alice", SyncRole.OWNER), ("rita", SyncRole.NONE)):
        failed: dict[str, Any] = {"attempts": 3, "last_error": "HTTP 500", "desired_version": 2}
        sync_rows.pending(session, first, user_id, role, state=SyncState.BLOCKED, **failed)
        sync_rows.pending(session, second, user_id, role, observed_role=SyncRole.ADMIN, **failed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_fit_phones(
    visit: Open, page: Page, pages: list[tuple[str, str]], scheme: str
) -> None:
    problems = []
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 800})
    for user, path in [("signed-out", "/login"), *pages]:
        visit(user, path)
        # The Content-Security-Policy of the page does not apply to scripts that Playwright evaluates.
        page.evaluate(AXE.read_text())
        violations = page.evaluate("axe.run().then((result) => result.violations)")
        problems += [f"{path}: {v['id']} {[n['html'][:150] for n in v['nodes']]}" for v in violations]
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            problems.append(f"{path} is {width} wide")
    assert problems == [], "\n".join(problems)


def test_updates_and_rollouts_work_without_javascript(
    browser: Browser, portal: str, settings: Settings, database: Database, scene: Scene
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        sign_in(context, portal, settings, database, "alice")
        page = context.new_page()
        page.goto(f"{portal}/o/acme/")
        page.get_by_role("link", name="Update available: 1.5.0").first.click()
        page.get_by_role("button", name="Update now").click()
        expect(page.locator(".card").first).to_contain_text("queued")

        context.clear_cookies()
        sign_in(context, portal, settings, database, "root")
        page.goto(f"{portal}/admin/rollouts/new")
        page.get_by_label("All outdated bots").check()
        page.get_by_role("button", name="Show preview").click()
        page.get_by_role("button", name="Start rollout of 3 bots").click()
        expect(page.locator("#progress")).to_contain_text("0 of 3 updated")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#progress")).to_contain_text("paused")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

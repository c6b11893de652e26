"""Service workers of bots: they control their own host only, and pages of the gateway pass them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from portal.database import Database
from portal.gateway import limits
from portal.models import Bot, Membership, MembershipState, Step
from tests.browser.hostile.conftest import COOKIE, READ, Stage, shows_victim
from tests.portal.gateway.test_holding import Update
from tests.support.scene import Scene

pytestmark = pytest.mark.browser

WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));
self.addEventListener("fetch", (event) => {
    const hijacked = () => new Response("<h1>Hijacked</h1>", {headers: {"Content-Type": "text/html"}});
    event.respondWith(MODE === "hijack" ? hijacked() : fetch(event.request));
});
"""
REGISTER = """([url, scope]) => navigator.serviceWorker.register(url, {scope})
    .then(() => navigator.serviceWorker.ready).then(() => "ready", (error) => error.name)"""


def install_worker(stage: Stage, mode: str) -> None:
    """Let a service worker of the hostile bot control all pages of its host."""
    stage.hostile.answer("/worker.js", WORKER.replace("MODE", f'"{mode}"'), kind="text/javascript")
    assert stage.run(REGISTER, "/worker.js", "/") == "ready"
    stage.page.wait_for_function("navigator.serviceWorker.controller !== null")


def test_a_service_worker_controls_its_own_host_only(stage: Stage) -> None:
    stage.hostile.answer("/deep/worker.js", "", ("Service-Worker-Allowed", "/"), kind="text/javascript")
    assert stage.run(REGISTER, "/deep/worker.js", "/") == "SecurityError"
    for url in (f"{stage.portal}/", f"{stage.url(2)}/"):
        assert stage.run(REGISTER, "/worker.js", url) in {"SecurityError", "TypeError"}
        assert stage.run(REGISTER, f"{url}worker.js", "/") in {"SecurityError", "TypeError"}
    install_worker(stage, "hijack")
    stage.page.goto(f"{stage.url(1)}/")
    expect(stage.page.get_by_role("heading", name="Hijacked")).to_be_visible()
    stage.check_victims()


def remove_zoe(database: Database, _scene: Scene) -> None:
    """End the membership of Zoë."""
    with database.transaction() as session:
        session.query(Membership).filter_by(user_id="zoe").update({"state": MembershipState.REMOVED})


def lose_bot(database: Database, scene: Scene) -> None:
    """Let the hostile bot be unreachable."""
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).address = None


def update_bot(database: Database, scene: Scene) -> None:
    """Let the hostile bot be out of service because of an update."""
    Update(database, scene).enter(Step.DRAIN)


@pytest.mark.parametrize(
    ("change", "title"),
    [(remove_zoe, "Bot not found"), (lose_bot, "does not answer"), (update_bot, "is being updated")],
)
def test_pages_of_the_gateway_pass_a_service_worker_that_asks_the_network(  # noqa: PLR0917 - fixtures come by name
    stage: Stage,
    database: Database,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Database, Scene], None],
    title: str,
) -> None:
    monkeypatch.setattr(limits, "HOLD_SECONDS", 0.2)
    install_worker(stage, "network")
    stage.page.goto(f"{stage.url(1)}/notes")
    expect(stage.page.get_by_role("heading", name="Hostile")).to_be_visible()
    change(database, scene)
    stage.page.wait_for_timeout(1000 * limits.DECISION_SECONDS + 100)
    seen = len(stage.servers[0].seen)
    stage.page.goto(f"{stage.url(1)}/notes")
    expect(stage.page.get_by_role("heading", name=title)).to_be_visible()
    assert len(stage.servers[0].seen) == seen


def test_a_service_worker_of_the_victim_does_not_let_others_frame_it(stage: Stage) -> None:
    install_worker(stage, "network")
    stage.page.goto(f"{stage.url(2)}/")
    assert stage.run(READ, f"{stage.url(1)}/notes")["frame"] == "TypeError"
    assert not shows_victim(stage.page.frames[1])


def test_a_link_from_the_portal_passes_a_service_worker(stage: Stage) -> None:
    install_worker(stage, "network")
    stage.page.goto(f"{stage.portal}/o/acme/")
    stage.page.get_by_role("link", name="Open Paperclip 1").click()
    expect(stage.page.get_by_role("heading", name="Hostile")).to_be_visible()
    stage.context.clear_cookies(name=COOKIE)
    stage.page.goto(f"{stage.portal}/o/acme/")
    stage.page.get_by_role("link", name="Open Paperclip 1").click()
    expect(stage.page.get_by_role("heading", name="Hostile")).to_be_visible()

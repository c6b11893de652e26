"""Service workers of bots: they control their own host only, and pages of the gateway pass them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from portal.database import Database
from portal.models import Bot, Membership, MembershipState
from tests.browser.hostile.conftest import COOKIE, READ, Stage, shows_victim
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


def remove_zoe(session: Any, _scene: Scene) -> None:
    """End the membership of Zoë."""
    session.query(Membership).filter_by(user_id="zoe").update({"state": MembershipState.REMOVED})


def stop_bot(session: Any, scene: Scene) -> None:
    """Let the hostile bot be unreachable."""
    session.get_one(Bot, scene.bots[0]).address = None


@pytest.mark.parametrize(("change", "title"), [(remove_zoe, "Bot not found"), (stop_bot, "does not answer")])
def test_pages_of_the_gateway_pass_a_service_worker_that_asks_the_network(
    stage: Stage, database: Database, scene: Scene, change: Callable[[Any, Scene], None], title: str
) -> None:
    install_worker(stage, "network")
    stage.page.goto(f"{stage.url(1)}/notes")
    expect(stage.page.get_by_role("heading", name="Hostile")).to_be_visible()
    with database.transaction() as session:
        change(session, scene)
    stage.page.wait_for_timeout(2100)
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

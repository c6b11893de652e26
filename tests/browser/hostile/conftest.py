"""A hostile bot in a real browser, over HTTPS, on the same site as the portal: the worst case for cookies.

Zoë is signed in to the portal and has opened two bots. The first is hostile; the portal and the second are victims.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict
from playwright.sync_api import BrowserContext, Frame, Page, expect

from demo.processes import free_port
from portal.database import Database
from portal.models import Bot
from portal.settings import Settings
from tests import factories
from tests.browser.conftest import sign_in
from tests.support.gateway import FakeBot, LoopThread, RunningGateway, running_bot
from tests.support.portal import running_portal
from tests.support.scene import Scene
from tests.support.tls_front import running_tls_front, write_certificate

COOKIE = "__Host-flotilla-gateway"
Answer = tuple[str, str, list[tuple[str, str]]]
"""Content type, text, and headers."""


@dataclass
class ScriptedBot:
    """A bot with the answers that a test sets by path. All other paths show its title and the cookies it receives."""

    title: str
    answers: dict[str, Answer] = field(default_factory=dict)
    location: str | None = None
    """Where the path `/redirect` leads."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        await request.read()
        if request.path == "/redirect" and self.location:
            return web.Response(status=302, headers={"Location": self.location})
        page = f"<!doctype html><title>{self.title}</title><h1>{self.title}</h1>"
        kind, text, headers = self.answers.get(request.path, ("text/html", page, []))
        return web.Response(text=text, content_type=kind, headers=CIMultiDict(headers))

    def answer(self, path: str, text: str, *headers: tuple[str, str], kind: str = "text/html") -> None:
        """Set the answer at a path."""
        self.answers[path] = (kind, text, list(headers))


@dataclass
class Stage:
    """The portal, the hostile bot and its victim, and the browser of Zoë with a page at the hostile bot."""

    portal: str
    gateway: RunningGateway
    servers: list[FakeBot]
    hostile: ScriptedBot
    context: BrowserContext
    page: Page

    def url(self, number: int) -> str:
        """Return the URL of a bot, without a slash at the end."""
        return f"https://{self.gateway.host(f'paperclip-{number}')}"

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function of JavaScript in the page of the hostile bot."""
        return self.page.evaluate(script, list(arguments))

    def check_victims(self) -> None:
        """Check that Zoë is signed in to the portal and to the second bot, without a new ticket."""
        for url, title in ((f"{self.portal}/o/acme/", "Acme"), (f"{self.url(2)}/", "Victim")):
            with self.context.new_page() as page:
                tickets: list[str] = []
                page.on("request", lambda request: tickets.append(request.url))  # noqa: B023 - ends with the page
                page.goto(url)
                expect(page.get_by_role("heading", name=title).first).to_be_visible()
                assert page.url == url
                assert not [ticket for ticket in tickets if "/_gateway/enter" in ticket]

    def cookies(self) -> dict[tuple[str, str], str]:
        """Return the values of all cookies by domain and name."""
        return {(cookie["domain"], cookie["name"]): cookie["value"] for cookie in self.context.cookies()}


@pytest.fixture
def stage(  # noqa: PLR0917 - fixtures come by name
    page: Page, scene: Scene, settings: Settings, database: Database, redis_url: str, tmp_path: Path
) -> Iterator[Stage]:
    """Run everything, and open both bots."""
    portal_port, bots_port = free_port(), free_port()
    url, domain = f"https://portal.fleet.test:{portal_port}", f"bots.fleet.test:{bots_port}"
    with database.transaction() as session:
        zoe = factories.user(session, "zoe", id="zoe")
        factories.membership(session, session.get_one(Bot, scene.bots[0]).org, zoe)
    with ExitStack() as stack:
        servers = LoopThread()
        stack.callback(servers.close)
        bots = [stack.enter_context(running_bot(servers)) for _ in range(2)]
        hostile = ScriptedBot("Hostile")
        bots[0].handler, bots[1].handler = hostile.handle, ScriptedBot("Victim").handle
        with database.transaction() as session:
            for bot_id, bot in zip(scene.bots, bots, strict=False):
                session.get_one(Bot, bot_id).address = bot.address
        changed = replace(settings, redis_url=redis_url, base_url=url)
        gateway = RunningGateway(servers, changed, database, domain=domain)
        stack.callback(gateway.stop)
        behind = free_port()
        stack.enter_context(running_portal(gateway.settings, behind, url))
        certificate = write_certificate(tmp_path)
        stack.enter_context(running_tls_front(servers, certificate, portal_port, behind))
        stack.enter_context(running_tls_front(servers, certificate, bots_port, gateway.port))
        sign_in(page.context, url, changed, database, "zoe")
        stage = Stage(url, gateway, bots, hostile, page.context, page)
        for number, title in ((2, "Victim"), (1, "Hostile")):
            page.goto(f"{stage.url(number)}/")
            expect(page.get_by_role("heading", name=title)).to_be_visible()
        yield stage


READ = """async ([url]) => {
    const outcome = {};
    for (const mode of ["cors", "no-cors", "same-origin"])
        outcome[mode] = await fetch(url, {mode, credentials: "include"})
            .then(async (response) => `${response.type} ${(await response.text()).length}`)
            .catch((error) => error.name);
    const frame = document.body.appendChild(document.createElement("iframe"));
    frame.src = url;
    await new Promise((resolve) => (frame.onload = resolve));
    try { outcome.frame = frame.contentDocument.body.innerHTML; } catch (error) { outcome.frame = error.name; }
    return outcome;
}"""
"""Reads a page in all ways that scripts have, and returns the outcomes."""


def shows_victim(frame: Frame) -> bool:
    """Return whether a frame shows a page of the portal or of a bot. Otherwise browsers show an error page."""
    return not {"Acme", "Hostile", "Victim"}.isdisjoint(frame.locator("h1").all_inner_texts())

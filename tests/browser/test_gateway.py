"""Opening bots in a real browser: from the portal to the bot, in several tabs, and until access ends."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pytest
from aiohttp import WSMsgType, web
from playwright.sync_api import Browser, Page, expect

from portal.database import Database
from portal.models import Bot, Membership, MembershipState
from portal.password_hashing import hash_password
from portal.settings import Settings
from tests import factories
from tests.browser.conftest import Open, sign_in
from tests.browser.test_every_page import AXE
from tests.support.gateway import FakeBot, LoopThread, RunningGateway, running_bot
from tests.support.scene import Scene

pytestmark = pytest.mark.browser

PASSWORD = "a long password of the owner"
PAGE = """<!doctype html><title>Bot</title><h1>Hello, {name}</h1>
<ul>{notes}</ul><form method="post" action="/notes"><input name="text" aria-label="Note"><button>Add</button></form>
<p id="socket">connecting</p><script src="/socket.js"></script>"""
SCRIPT = """const line = document.getElementById("socket");
const socket = new WebSocket(`ws://${location.host}/ws`);
socket.onopen = () => socket.send("ping");
socket.onmessage = (message) => (line.textContent = message.data);
socket.onclose = (event) => (line.textContent = `closed ${event.code}`);"""


class NoteBot:
    """A bot with a page that greets the caller, stores notes and opens a WebSocket."""

    def __init__(self, title: str) -> None:
        """Set the title."""
        self._title = title
        self._notes: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        match (request.method, request.path):
            case ("GET", "/ws"):
                return await self._echo(request)
            case ("GET", "/socket.js"):
                return web.Response(text=SCRIPT, content_type="text/javascript")
            case ("POST", "/notes"):
                self._notes.append(str((await request.post())["text"]))
                return web.Response(status=303, headers={"Location": "/"})
        name = f"{unquote(request.headers['x-platform-user-name'])} of {self._title}"
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._notes)
        return web.Response(text=PAGE.format(name=html.escape(name), notes=notes), content_type="text/html")

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str("connected")
        return socket


@dataclass
class Place:
    """A bot of Acme, a bot of Globex, the gateway, and the portal."""

    portal: str
    gateway: RunningGateway
    bots: list[FakeBot]


@pytest.fixture
def place(  # noqa: PLR0917 - fixtures come by name
    portal: str, scene: Scene, settings: Settings, database: Database, redis_url: str, gateway_port: int
) -> Iterator[Place]:
    """Run two bots and the gateway; Zoë is a member of both organizations."""
    servers = LoopThread()
    with running_bot(servers) as first, running_bot(servers) as second:
        first.handler, second.handler = NoteBot("one").handle, NoteBot("two").handle
        with database.transaction() as session:
            for bot_id, bot in zip(scene.bots, (first, second), strict=False):
                session.get_one(Bot, bot_id).address = bot.address
            zoe = factories.user(session, "zoe", id="zoe", password_hash=hash_password(PASSWORD))
            zoe.name = "Zoë Müller"
            globex = factories.org(session, factories.user(session, "gus"), slug="globex")
            session.get_one(Bot, scene.bots[1]).org_id = globex.id
            for org in (session.get_one(Bot, scene.bots[0]).org, globex):
                factories.membership(session, org, zoe)
        changed = replace(settings, redis_url=redis_url, base_url=portal)
        gateway = RunningGateway(servers, changed, database, gateway_port)
        yield Place(portal, gateway, [first, second])
        gateway.stop()
    servers.close()


def test_a_member_opens_a_bot_from_the_portal_and_writes_a_note(visit: Open, page: Page, place: Place) -> None:
    visit("zoe", "/o/acme/")
    page.get_by_role("link", name="Open Paperclip 1").click()
    expect(page.get_by_role("heading", name="Hello, Zoë Müller of one")).to_be_visible()
    expect(page.get_by_text("connected")).to_be_visible()
    page.get_by_label("Note").fill("buy paper")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("buy paper")).to_be_visible()
    assert {cookie["name"] for cookie in page.context.cookies(f"http://{place.gateway.host('paperclip-1')}")} == {
        "flotilla-gateway",
        "flotilla-gateway-state",
    }
    assert all("flotilla" not in str(seen.values("cookie")) for seen in place.bots[0].seen)


def test_a_person_who_signs_in_on_the_way_arrives_at_the_bot(visit: Open, page: Page, place: Place) -> None:
    # Browsers apply the `form-action` of the sign-in page to all redirects that follow the form.
    page.goto(f"http://{place.gateway.host('paperclip-1')}/?from=bookmark")
    page.get_by_label("Email").fill("zoe@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Hello, Zoë Müller of one")).to_be_visible()
    assert page.url == f"http://{place.gateway.host('paperclip-1')}/?from=bookmark"


def test_two_tabs_of_two_organizations(visit: Open, page: Page, place: Place, database: Database) -> None:
    visit("zoe", "/o/acme/")
    page.get_by_role("link", name="Open Paperclip 1").click()
    other = page.context.new_page()
    other.goto(f"{place.portal}/o/globex/")
    other.get_by_role("link", name="Open Paperclip 2").click()
    for tab, title in ((page, "one"), (other, "two")):
        expect(tab.get_by_role("heading", name=f"Hello, Zoë Müller of {title}")).to_be_visible()
        expect(tab.get_by_text("connected")).to_be_visible()
        tab.get_by_label("Note").fill(f"a note for {title}")
        tab.get_by_role("button", name="Add").click()
        expect(tab.get_by_role("listitem")).to_have_text([f"a note for {title}"])
    with database.transaction() as session:
        org_id = session.query(Bot.org_id).filter_by(subdomain="paperclip-2").scalar()
        session.query(Membership).filter_by(user_id="zoe", org_id=org_id).update({"state": MembershipState.REMOVED})
    expect(other.get_by_text("closed 1008")).to_be_visible(timeout=5000)
    page.reload()
    expect(page.get_by_role("listitem")).to_have_text(["a note for one"])
    expect(page.get_by_text("connected")).to_be_visible()


def test_a_member_whom_an_admin_removes_is_refused_and_the_socket_ends(  # noqa: PLR0917 - fixtures come by name
    visit: Open, page: Page, place: Place, browser: Browser, settings: Settings, database: Database
) -> None:
    visit("zoe", "/o/acme/")
    page.get_by_role("link", name="Open Paperclip 1").click()
    expect(page.get_by_text("connected")).to_be_visible()
    with browser.new_context() as context:
        sign_in(context, place.portal, settings, database, "alice")
        admin = context.new_page()
        admin.goto(f"{place.portal}/o/acme/team")
        admin.get_by_role("link", name="Remove Zoë Müller").click()
        admin.get_by_role("button", name="Remove Zoë Müller").click()
        expect(page.get_by_text("closed 1008")).to_be_visible(timeout=5000)
    received = len(place.bots[0].seen)
    page.get_by_label("Note").fill("too late")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Bot not found")).to_be_visible()
    assert len(place.bots[0].seen) == received
    page.evaluate(AXE.read_text())
    assert page.evaluate("axe.run()")["violations"] == []


def test_signing_out_of_the_portal_ends_the_session_at_the_bot(visit: Open, page: Page, place: Place) -> None:
    visit("zoe", "/o/acme/")
    page.get_by_role("link", name="Open Paperclip 1").click()
    expect(page.get_by_text("connected")).to_be_visible()
    portal = page.context.new_page()
    portal.goto(f"{place.portal}/o/acme/")
    portal.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("closed 1008")).to_be_visible(timeout=5000)
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_page_of_another_bot_can_change_nothing(visit: Open, page: Page, place: Place) -> None:
    visit("zoe", "/o/acme/")
    page.get_by_role("link", name="Open Paperclip 1").click()
    expect(page.get_by_text("connected")).to_be_visible()
    victim = f"http://{place.gateway.host('paperclip-1')}"
    page.goto(f"http://{place.gateway.host('paperclip-2')}/")
    expect(page.get_by_role("heading", name="of two")).to_be_visible()
    before = len(place.bots[0].seen)
    page.evaluate(
        """async (victim) => {
            const body = new URLSearchParams({text: "forged"});
            await fetch(`${victim}/notes`, {method: "POST", body, mode: "no-cors", credentials: "include"});
            await new Promise((resolve) => {
                const socket = new WebSocket(`${victim.replace("http", "ws")}/ws`);
                socket.onclose = socket.onopen = resolve;
            });
        }""",
        victim,
    )
    assert len(place.bots[0].seen) == before


def test_pages_of_the_gateway_look_like_the_portal(
    visit: Open, page: Page, place: Place, database: Database, scene: Scene
) -> None:
    visit("zoe", "/o/acme/")
    page.get_by_role("link", name="Open Paperclip 1").click()
    expect(page.get_by_text("connected")).to_be_visible()
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).address = "127.0.0.1:1"
    page.wait_for_timeout(2100)
    page.reload()
    expect(page.get_by_role("heading", name="Paperclip 1 does not answer")).to_be_visible()
    page.evaluate(AXE.read_text())
    assert page.evaluate("axe.run()")["violations"] == []
    assert page.locator("body").evaluate("(body) => getComputedStyle(body).fontFamily").startswith("system-ui")
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).address = place.bots[0].address
    # The page reloads automatically.
    expect(page.get_by_role("heading", name="of one")).to_be_visible(timeout=15_000)

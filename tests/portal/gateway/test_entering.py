"""Entering a bot: from the bot's host to the portal and back, with a session that ends with the portal's session."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask.testing import FlaskClient

from portal.database import Database
from tests.portal.views.org.test_opening import find_target
from tests.support.cast import SignedIn
from tests.support.gateway import Browser, FakeBot, RunningGateway
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}


def begin(browser: Browser, target: str = "/notes?page=2", cookie: str | None = None) -> tuple[str, str]:
    """Open a page without a session; return the portal's path and the state cookie."""
    with browser.open(target, headers={"Cookie": cookie, **PAGE}) as answer:
        assert answer.status == 303
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Location"].startswith("http://127.0.0.1:8000/open/")
        cookies = answer.headers.get_all("Set-Cookie") or []
        (state,) = [value for value in cookies if value.startswith("flotilla-gateway-state=")]
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in state.split(";")}
        return answer.headers["Location"].removeprefix("http://127.0.0.1:8000"), state.partition(";")[0]


def get_ticket(portal: FlaskClient, path: str) -> str:
    """Follow the way through the portal; return the path at the bot's host."""
    target = urlsplit(find_target(portal.get(path).text))
    assert target.path == "/_gateway/enter"
    return f"{target.path}?{target.query}"


def test_the_way_through_the_portal_leads_back_to_the_page(
    bob: Browser, bot: FakeBot, signed_in: SignedIn, scene: Scene
) -> None:
    path, state = begin(bob)
    enter = get_ticket(signed_in("bob"), path)
    with bob.open(enter, headers={"Cookie": state, **PAGE}) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/notes?page=2")
        session = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in session.split(";")}
    assert bot.seen == []
    assert bob.read("/notes?page=2", headers={"Cookie": session.partition(";")[0]})[0] == 200
    assert bot.seen[0].values("x-platform-user-name") == ["Bob"]


def test_two_tabs_arrive(bob: Browser, bot: FakeBot, signed_in: SignedIn) -> None:
    first, state = begin(bob, "/one")
    second, same_state = begin(bob, "/two", cookie=state)
    assert state == same_state
    portal = signed_in("bob")
    for path, target in ((first, "/one"), (second, "/two")):
        with bob.open(get_ticket(portal, path), headers={"Cookie": state, **PAGE}) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, target)
            assert "flotilla-gateway=" in answer.headers["Set-Cookie"]


def test_a_ticket_of_another_browser_is_refused(bob: Browser, bot: FakeBot, signed_in: SignedIn) -> None:
    path, _ = begin(bob)
    enter = get_ticket(signed_in("carol"), path)
    _, state_of_bob = begin(bob)
    for cookie in (state_of_bob, "a=1", f"flotilla-gateway-state={'x' * 43}"):
        with bob.open(enter, headers={"Cookie": cookie, **PAGE}) as answer:
            assert answer.status == 400
            assert answer.headers.get_all("Set-Cookie") is None
            assert b"This link has expired" in answer.read()


def test_a_ticket_works_once(bob: Browser, bot: FakeBot, signed_in: SignedIn) -> None:
    path, state = begin(bob)
    enter = get_ticket(signed_in("bob"), path)
    assert bob.read(enter, headers={"Cookie": state, **PAGE})[0] == 303
    assert bob.read(enter, headers={"Cookie": state, **PAGE})[0] == 400
    # With a session, for example of another tab, the browser simply continues.
    with bob.open(enter, headers={**PAGE}) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/notes?page=2")
        assert answer.headers.get_all("Set-Cookie") is None


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example/", "/\\evil.example", "/a\r\nX: y"])
def test_entering_leads_to_the_same_host_only(bob: Browser, signed_in: SignedIn, bot: FakeBot, path: str) -> None:
    begun, state = begin(bob)
    query = parse_qs(urlsplit(get_ticket(signed_in("bob"), begun)).query)
    enter = "/_gateway/enter?" + urlencode({"ticket": query["ticket"][0], "path": path})
    with bob.open(enter, headers={"Cookie": state, **PAGE}) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/")


def test_known_and_unknown_hosts_answer_alike_without_a_session(bob: Browser, gateway: RunningGateway) -> None:
    def ask(subdomain: str, headers: dict[str, str | None]) -> tuple[int, bytes, list[str]]:
        host = {"Host": gateway.host(subdomain), "Cookie": None}
        with bob.open("/x", headers={**host, **headers}) as answer:
            names = sorted(name for name, _ in answer.getheaders())
            return answer.status, answer.read(), names

    for headers in (PAGE, {"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Mode": None, "Accept": "*/*"}):
        assert ask("paperclip-1", dict(headers)) == ask("nothing", dict(headers))


def test_scripts_without_a_session_get_a_status(bob: Browser, bot: FakeBot) -> None:
    assert bob.read("/x", headers={"Cookie": None, "Sec-Fetch-Mode": "cors"})[0] == 401
    assert bob.read("/x", "POST", b"x", {"Cookie": None})[0] == 401


def test_a_session_is_valid_at_one_bot_only(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    assert bob.read()[0] == 200
    assert bob.read("/", headers={"Host": gateway.host("paperclip-2"), "Sec-Fetch-Mode": "cors"})[0] == 401


def test_signing_out_of_the_portal_ends_the_session_at_the_bot(
    bob: Browser, bot: FakeBot, signed_in: SignedIn, database: Database
) -> None:
    portal = signed_in("bob")
    path, state = begin(bob)
    with bob.open(get_ticket(portal, path), headers={"Cookie": state, **PAGE}) as answer:
        session = answer.headers["Set-Cookie"].partition(";")[0]
    assert bob.read("/", headers={"Cookie": session})[0] == 200
    assert portal.post("/logout").status_code == 303
    assert wait_for_status(bob, session, 401) < 1


def wait_for_status(browser: Browser, cookie: str, status: int) -> float:
    """Return after how many seconds scripts get this status."""
    began = time.monotonic()
    while browser.read("/", headers={"Cookie": cookie, "Sec-Fetch-Mode": "cors"})[0] != status:
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    return time.monotonic() - began

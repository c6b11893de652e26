"""Forwarding: what the bot receives, and what the browser gets back."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import resource
import threading
import time
from collections.abc import Iterator

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from multidict import CIMultiDict

from portal.database import Database
from portal.gateway.exchanges import Exchange
from portal.models import Bot, BotState, User
from portal.services import changes
from portal.services.gateway import assertion_keys
from portal.services.gateway.visits import Visit
from tests.support.cast import Cast
from tests.support.gateway import COOKIE, BotHandler, Browser, FakeBot, LoopThread, RunningGateway, read_all
from tests.support.scene import Scene

pytestmark = pytest.mark.requests


def test_a_request_reaches_the_bot_with_identity(bob: Browser, bot: FakeBot, cast: Cast) -> None:
    assert bob.read("/notes?a=1&a=%2F") == (200, b"GET /notes?a=1&a=%2F 0")
    (seen,) = bot.seen
    assert seen.values("x-platform-user-id") == [cast.people["bob"]]
    assert seen.values("x-platform-user-email") == ["bob@example.com"]
    assert seen.values("x-platform-user-name") == ["Bob"]
    assert seen.values("host") == [bob.host]
    assert seen.values("x-forwarded-host") == [bob.host]
    assert seen.values("x-forwarded-proto") == ["http"]
    assert seen.values("x-forwarded-for") == ["127.0.0.1"]
    assert seen.values("cookie") == []
    assert len(seen.values("x-platform-assertion")) == 1


def test_names_are_encoded(bob: Browser, bot: FakeBot, database: Database, cast: Cast) -> None:
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).name = "Zoë 100%\u2028"
    assert bob.read()[0] == 200
    assert bot.seen[0].values("x-platform-user-name") == ["Zo%C3%AB 100%25"]


@pytest.mark.parametrize("target", ["/", "/a//b", "/a;b=c/d?x=%zz", "/%C3%A9?", "/x%20y", "/a?b?c=/../internal"])
def test_paths_pass_as_they_are(bob: Browser, bot: FakeBot, target: str) -> None:
    assert bob.read(target)[0] == 200
    assert bot.seen[0].target == target


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_bodies_pass(bob: Browser, bot: FakeBot, method: str) -> None:
    assert bob.read("/x", method, b"a" * 300_000) == (200, f"{method} /x 300000".encode())
    assert bot.seen[0].values("content-length") == ["300000"]
    assert bob.read("/x", method, iter([b"abc", b"d" * 5000])) == (200, f"{method} /x 5003".encode())
    assert bot.seen[1].values("transfer-encoding") == ["chunked"]
    assert bob.read("/x", method) == (200, f"{method} /x 0".encode())


def answer_with(response: web.Response) -> BotHandler:
    """Return a handler with this response."""

    async def handle(_request: web.BaseRequest) -> web.Response:
        return response

    return handle


@pytest.mark.parametrize("status", [200, 201, 204, 304, 401, 404, 418, 500, 503])
def test_statuses_pass(bob: Browser, bot: FakeBot, status: int) -> None:
    bot.handler = answer_with(web.Response(status=status))
    assert bob.read()[0] == status


def test_headers_of_responses_are_filtered(bob: Browser, bot: FakeBot) -> None:
    headers = [
        ("Set-Cookie", "own=1; Path=/"),
        ("Set-Cookie", "flotilla-gateway=stolen; Path=/"),
        ("Set-Cookie", "wide=1; Domain=localhost"),
        ("Clear-Site-Data", '"*"'),
        ("Strict-Transport-Security", "max-age=1"),
        ("Location", f"http://{bot.address}/next"),
        ("X-Own", "yes"),
    ]
    bot.handler = answer_with(web.Response(status=302, headers=CIMultiDict(headers)))
    with bob.open() as answer:
        assert answer.status == 302
        assert answer.headers.get_all("Set-Cookie") == ["own=1; Path=/"]
        assert answer.headers["Location"] == f"http://{bob.host}/next"
        assert answer.headers["X-Own"] == "yes"
        assert {"Clear-Site-Data", "Strict-Transport-Security"} & set(answer.headers) == set()


def test_redirects_keep_their_path_if_the_bot_ends_before_the_response(
    bob: Browser, bot: FakeBot, publishing: Database, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_confirmed, confirm = threading.Event(), Exchange.confirm

    def note_missing_address(exchange: Exchange, visit: Visit, read_at: float) -> None:
        confirm(exchange, visit, read_at)
        if visit.address is None:
            is_confirmed.set()

    def end_bot() -> None:
        with publishing.transaction() as session:
            session.get_one(Bot, scene.bots[0]).state = BotState.MISSING
            changes.note_change(session, scene.bots[0])
        assert is_confirmed.wait(10)

    async def redirect(_request: web.BaseRequest) -> web.Response:
        await asyncio.to_thread(end_bot)
        headers = {"Location": f"http://{bot.address}/next?a=1", "Content-Location": "/here"}
        return web.Response(status=302, headers=headers)

    monkeypatch.setattr(Exchange, "confirm", note_missing_address)
    bot.handler = redirect
    with bob.open() as answer:
        assert answer.headers["Location"] == f"http://{bob.host}/next?a=1"
        assert answer.headers["Content-Location"] == "/here"


def test_redirects_are_not_followed(bob: Browser, bot: FakeBot) -> None:
    bot.handler = answer_with(web.Response(status=307, headers={"Location": "http://169.254.169.254/latest"}))
    with bob.open("/x", "POST", b"secret") as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "http://169.254.169.254/latest")
    assert len(bot.seen) == 1


def test_own_cookies_of_the_bot_pass_and_ours_do_not(bob: Browser, bot: FakeBot) -> None:
    cookie = f"a=1; {COOKIE}={bob.token}; flotilla-session=portal; b=2"
    assert bob.read(headers={"Cookie": cookie})[0] == 200
    assert bot.seen[0].values("cookie") == ["a=1; b=2"]
    assert bob.token not in str(bot.seen[0].headers)


def test_compressed_bodies_pass_untouched(bob: Browser, bot: FakeBot) -> None:
    packed = gzip.compress(b"hello" * 100)

    async def echo(request: web.BaseRequest) -> web.Response:
        body = await request.content.read()
        return web.Response(body=body, headers={"Content-Encoding": "gzip"}, content_type="text/plain")

    bot.handler = echo
    with bob.open("/", "POST", packed, {"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Length"] == str(len(packed))
        assert answer.read() == packed
    assert bot.seen[0].values("accept-encoding") == ["gzip"]


def test_head_and_ranges(bob: Browser, bot: FakeBot) -> None:
    bot.handler = answer_with(web.Response(body=b"abc", headers={"Accept-Ranges": "bytes"}))
    with bob.open("/", "HEAD") as answer:
        assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "3", b"")
    partial = web.Response(status=206, body=b"b", headers={"Content-Range": "bytes 1-1/3"})
    bot.handler = answer_with(partial)
    with bob.open(headers={"Range": "bytes=1-1"}) as answer:
        assert (answer.status, answer.headers["Content-Range"], answer.read()) == (206, "bytes 1-1/3", b"b")
    assert bot.seen[1].values("range") == ["bytes=1-1"]


def test_a_missing_content_type_stays_missing(bob: Browser, servers: LoopThread, bot: FakeBot) -> None:
    class Bare(web.StreamResponse):
        async def _prepare_headers(self) -> None:
            await super()._prepare_headers()
            del self.headers["Content-Type"]
            self.headers["Server"] = "bot"

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = Bare()
        await response.prepare(request)
        await response.write(b"x")
        return response

    bot.handler = handle
    with bob.open() as answer:
        assert (answer.headers["Content-Type"], answer.headers["Server"], answer.read()) == (None, "bot", b"x")


def test_responses_stream(bob: Browser, bot: FakeBot) -> None:
    first_was_read = threading.Event()

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.to_thread(first_was_read.wait, 10)
        await response.write(b"data: 2\n\n")
        return response

    bot.handler = stream
    with bob.open() as answer:
        assert answer.readline() == b"data: 1\n"
        first_was_read.set()
        assert answer.read() == b"\ndata: 2\n\n"


def test_uploads_stream(bob: Browser, bot: FakeBot) -> None:
    arrived = threading.Event()

    async def read_slowly(request: web.BaseRequest) -> web.Response:
        first = await request.content.readany()
        arrived.set()
        return web.Response(body=first + await request.content.read())

    def parts() -> Iterator[bytes]:
        yield b"first"
        assert arrived.wait(10)
        yield b"second"

    bot.handler = read_slowly
    assert bob.read("/", "POST", parts()) == (200, b"firstsecond")


@pytest.mark.slow
def test_large_bodies_need_constant_memory(bob: Browser, bot: FakeBot) -> None:
    size = 300 * 1024 * 1024

    async def exchange(request: web.BaseRequest) -> web.StreamResponse:
        received = 0
        async for chunk in request.content.iter_any():
            received += len(chunk)
        response = web.StreamResponse(headers={"Content-Length": str(size), "X-Received": str(received)})
        await response.prepare(request)
        for _ in range(size // 1024**2):
            await response.write(bytes(1024**2))
        return response

    bot.handler = exchange
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with bob.open("/", "POST", (bytes(1024**2) for _ in range(300))) as answer:
        assert answer.headers["X-Received"] == str(size)
        time.sleep(0.5)  # the gateway must not read ahead
        assert sum(len(chunk) for chunk in iter(lambda: answer.read(1024**2), b"")) == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024


def test_the_gateway_asks_for_the_body_when_the_bot_was_reached(
    bob: Browser, bot: FakeBot, gateway: RunningGateway
) -> None:
    head = (
        f"POST /x HTTP/1.1\r\nHost: {bob.host}\r\nCookie: {COOKIE}={{}}\r\nSec-Fetch-Site: same-origin\r\n"
        "Content-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with gateway.connect() as connection:
        connection.sendall(head.format(bob.token).encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert b"POST /x 4" in read_all(connection)
    assert bot.seen[0].values("expect") == []
    refused = gateway.send(head.format("unknown").encode(), 1)
    assert refused.startswith(b"HTTP/1.1 401 ")


def test_an_early_response_ends_an_upload(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    bot.handler = answer_with(web.Response(status=413, headers={"Connection": "close"}))
    head = (
        f"POST /x HTTP/1.1\r\nHost: {bob.host}\r\nCookie: {COOKIE}={bob.token}\r\nSec-Fetch-Site: same-origin\r\n"
        "Content-Length: 1000000\r\n\r\nstart"
    )
    with gateway.connect() as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_requests_in_a_row_use_one_connection(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    request = f"GET /{{}} HTTP/1.1\r\nHost: {bob.host}\r\nCookie: {COOKIE}={bob.token}\r\n\r\n"
    last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    received = gateway.send((request.format(1) + request.format(2) + last.format(3)).encode())
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert [seen.target for seen in bot.seen] == ["/1", "/2", "/3"]


def test_http_1_0_clients_get_whole_responses(bob: Browser, bot: FakeBot, gateway: RunningGateway) -> None:
    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part one, part two")
        return response

    bot.handler = stream
    received = gateway.send(f"GET / HTTP/1.0\r\nHost: {bob.host}\r\nCookie: {COOKIE}={bob.token}\r\n\r\n".encode())
    assert b"chunked" not in received
    assert received.endswith(b"\r\n\r\npart one, part two")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": None}, 403),
        ({"Sec-Fetch-Site": None, "Origin": "http://other.localhost"}, 403),
    ],
)
def test_changes_need_a_page_of_the_bot(
    bob: Browser, bot: FakeBot, headers: dict[str, str | None], status: int
) -> None:
    assert bob.read("/", "POST", b"", headers)[0] == status
    assert len(bot.seen) == (status == 200)


@pytest.mark.parametrize("site", ["same-site", "cross-site", "", "Same-Origin"])
@pytest.mark.parametrize(
    ("mode", "destination"),
    [
        *(("navigate", frame) for frame in ("iframe", "frame", "object", "embed", "", None)),
        *((mode, "empty") for mode in ("cors", "no-cors", "same-origin", "", None)),
        ("no-cors", "script"),
        ("no-cors", "document"),
    ],
)
def test_pages_of_other_sites_can_only_lead_to_a_page(
    bob: Browser, bot: FakeBot, site: str, mode: str | None, destination: str | None
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
    for method in ("GET", "HEAD", "OPTIONS"):
        assert bob.read("/", method, headers=headers)[0] == 403
    assert bot.seen == []


@pytest.mark.parametrize("destination", ["document", "empty"])  # empty: passed on by a service worker
def test_pages_of_other_sites_can_lead_to_a_page(bob: Browser, bot: FakeBot, destination: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": destination}
    assert bob.read("/", headers=headers)[0] == 200
    assert bob.read("/", "POST", b"", headers)[0] == 403


def test_only_pages_of_the_bot_may_frame_it(bob: Browser, bot: FakeBot) -> None:
    async def allow_frames(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Security-Policy": "frame-ancestors *", "X-Frame-Options": "ALLOWALL"})

    bot.handler = allow_frames
    with bob.open() as answer:
        assert answer.headers.get_all("Content-Security-Policy") == ["frame-ancestors *", "frame-ancestors 'self'"]


@pytest.mark.parametrize("site", ["same-origin", "none", None])
def test_pages_of_the_bot_can_load_everything(bob: Browser, bot: FakeBot, site: str | None) -> None:
    for destination in ("iframe", "script", "empty"):
        assert bob.read("/", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Dest": destination})[0] == 200


def test_own_origin_is_enough_for_browsers_without_fetch_metadata(bob: Browser, bot: FakeBot) -> None:
    headers = {"Sec-Fetch-Site": None, "Origin": f"http://{bob.host}"}
    assert bob.read("/", "POST", b"", headers)[0] == 200


def test_assertions_can_be_verified(bob: Browser, bot: FakeBot, database: Database, cast: Cast, scene: Scene) -> None:
    assert bob.read()[0] == 200
    (token,) = bot.seen[0].values("x-platform-assertion")
    head, claims, signature = token.split(".")

    def decode(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    with database.reading() as session:
        (key,) = assertion_keys.list_public(session)
    assert json.loads(decode(head)) == {"alg": "EdDSA", "typ": "JWT", "kid": key.id}
    Ed25519PublicKey.from_public_bytes(decode(key.value)).verify(decode(signature), f"{head}.{claims}".encode())
    found = json.loads(decode(claims))
    assert found.pop("exp") - found.pop("iat") == 60
    assert found == {
        "iss": "http://127.0.0.1:8000",
        "aud": scene.bots[0],
        "sub": cast.people["bob"],
        "email": "bob@example.com",
        "name": "Bob",
        "role": "member",
        "org": cast.org_id,
    }

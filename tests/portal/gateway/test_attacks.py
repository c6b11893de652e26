"""Attacks: hundreds of raw requests to a running gateway, in front of a strict bot and of real servers."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from portal.database import Database
from portal.models import Bot
from tests.portal.gateway.attacks import list_attacks
from tests.portal.gateway.attacks.request import FORGED, Attack
from tests.support.cast import Cast
from tests.support.gateway import COOKIE, Browser, RunningGateway, SeenRequest, read_all, sign_in
from tests.support.missing import required_service
from tests.support.path_servers import PathClient, express_app, flask_app, list_targets, node_app, reference_bot
from tests.support.scene import Scene
from tests.support.strict_bot import StrictBot, running_strict_bot

pytestmark = [pytest.mark.requests, pytest.mark.slow]

Server = Callable[[Path], AbstractContextManager[int]]

IDENTITY = ("x-platform-user-id", "x-platform-user-email", "x-platform-user-name", "x-platform-assertion")
SILENCE_SECONDS = 0.3
"""How long to wait for further responses on a connection that stays open."""


@pytest.fixture
def strict_bot(database: Database, scene: Scene) -> Iterator[StrictBot]:
    """Return the first bot of the scene, which records unusual HTTP."""
    with running_strict_bot() as bot:
        set_address(database, scene, bot.address)
        yield bot


@pytest.fixture
def attacker(gateway: RunningGateway, strict_bot: StrictBot, database: Database, cast: Cast, scene: Scene) -> Browser:
    """Return Bob's browser at the strict bot."""
    return sign_in(gateway, database, cast.people["bob"], scene.bots[0])


def set_address(database: Database, scene: Scene, address: str) -> None:
    """Set where the first bot listens."""
    with database.transaction() as session:
        session.get_one(Bot, scene.bots[0]).address = address


def read_status(received: bytes) -> int | None:
    """Return the status of the first response; None without a response."""
    match = re.match(rb"HTTP/1\.[01] (\d{3})", received)
    return int(match[1]) if match else None


def find_harm(attack: Attack, attacker: Browser, bot: StrictBot, cast: Cast) -> list[str]:
    """Send an attack and return what is wrong with the response and with what the bot has received."""
    bot.seen.clear()
    bot.violations.clear()
    received = attacker.gateway.send(attack.request, SILENCE_SECONDS)
    status, wrong = read_status(received), list(bot.violations)
    if attack.status is not None and status != attack.status:
        wrong.append(f"status {status} instead of {attack.status}")
    if status is not None and status >= 500 and status != 505:
        wrong.append(f"status {status}")
    if len(bot.seen) > attack.requests:
        wrong.append(f"{len(bot.seen)} requests")
    for seen in bot.seen:
        wrong += find_forgery(seen, attacker, cast)
    return [f"{attack.name}: {problem}" for problem in wrong]


def find_forgery(seen: SeenRequest, attacker: Browser, cast: Cast) -> list[str]:
    """Return what the bot must not have received with a request."""
    wrong, text = [], str(seen.headers)
    identity = [seen.values(name) for name in IDENTITY]
    if identity[:3] != [[cast.people["bob"]], ["bob@example.com"], ["Bob"]] or len(identity[3]) != 1:
        wrong.append(f"identity {identity}")
    if [host.lower() for host in seen.values("host")] != [attacker.host] or seen.values("x-forwarded-for") != [
        "127.0.0.1"
    ]:
        wrong.append(f"addresses {seen.headers}")
    wrong += [f"{secret} reaches the bot" for secret in (FORGED, "portal-secret", attacker.token) if secret in text]
    return wrong + ([f"the target {seen.target}"] if "internal" in decode(seen.target) else [])


def decode(target: str) -> str:
    """Return a path in lower case after decoding it as often as possible."""
    path = target.partition("?")[0].encode()
    while (decoded := unquote_to_bytes(path)) != path:
        path = decoded
    return path.decode(errors="replace").lower()


def test_no_raw_request_does_harm(attacker: Browser, strict_bot: StrictBot, cast: Cast) -> None:
    attacks = list_attacks(attacker.host, attacker.token)
    assert len({attack.request for attack in attacks}) >= 300
    harm = [problem for attack in attacks for problem in find_harm(attack, attacker, strict_bot, cast)]
    assert harm == []
    assert attacker.read() == (200, b"ok")


@pytest.mark.parametrize("server", [reference_bot, flask_app, express_app, node_app])
def test_no_path_leads_to_internal_of_a_real_server(
    server: Server, attacker: Browser, database: Database, scene: Scene, tmp_path: Path
) -> None:
    lines = (f"Host: {attacker.host}", f"Cookie: {COOKIE}={attacker.token}")
    with (
        required_service(server(tmp_path)) as port,
        closing(PathClient(port)) as direct,
        closing(PathClient(attacker.gateway.port, *lines)) as client,
    ):
        set_address(database, scene, f"127.0.0.1:{port}")
        assert direct.is_routed_to_internal("/internal/a")
        assert attacker.read("/a")[0] in {200, 404}
        assert [target for target in list_targets()[::4] if client.is_routed_to_internal(target)] == []


@pytest.mark.parametrize(
    "received",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n01\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest",
    ],
)
def test_the_strict_bot_notices_unusual_http(received: bytes) -> None:
    with running_strict_bot() as bot, socket.create_connection(("127.0.0.1", bot.port), 5) as connection:
        connection.sendall(received)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
        assert bot.violations

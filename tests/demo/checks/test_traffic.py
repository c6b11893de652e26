"""People of the demo's end-to-end check: they sign in, open a bot through the gateway, use it, and count failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import web

from demo.checks.traffic import Traffic, running_traffic
from demo.checks.visitors import PortalVisitor, Visitor
from demo.processes import DemoError, free_port
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.server import running_server
from portal.database import Database
from portal.models import Bot, User
from portal.password_hashing import hash_password
from portal.settings import Settings
from tests.demo.reference_bot.local_bots import make_bot
from tests.support.cast import Cast
from tests.support.gateway import LoopThread, RunningGateway, running_bot
from tests.support.portal import running_portal
from tests.support.scene import Scene

pytestmark = [pytest.mark.requests, pytest.mark.slow]

PASSWORD = "a long password of Bob"


@pytest.fixture
def servers() -> Iterator[LoopThread]:
    """Return the thread in which servers run."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def portal_url(
    settings: Settings, redis_url: str, database: Database, cast: Cast, servers: LoopThread
) -> Iterator[str]:
    """Run portal and gateway, and return the URL of the portal. Bob has a password."""
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).password_hash = hash_password(PASSWORD)
    port = free_port()
    with_domain = replace(settings.gateway, bots_domain=f"localhost:{port}")
    changed = replace(settings, redis_url=redis_url, gateway=with_domain)
    with running_portal(changed) as url:
        gateway = RunningGateway(servers, replace(changed, base_url=url), database, port)
        yield url
        gateway.stop()


@pytest.fixture
def bot_port(tmp_path: Path, database: Database, scene: Scene) -> Iterator[int]:
    """Run the first bot of the scene, and return its port."""
    bot = make_bot(tmp_path, Configuration(port=0))
    with running_server(bot) as port:
        bot.migrate()
        with database.transaction() as session:
            session.get_one(Bot, scene.bots[0]).address = f"127.0.0.1:{port}"
        yield port


def wait_until(is_done: Callable[[], bool]) -> None:
    """Wait up to ten seconds."""
    deadline = time.monotonic() + 10
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run_traffic(visitor: Visitor, requests: int) -> Traffic:
    """Let one person send some requests, and return what the person has seen."""
    with running_traffic({"b1": visitor}) as traffic:
        wait_until(lambda: traffic.sent >= requests)
    return traffic


@pytest.mark.usefixtures("bot_port")
def test_a_person_opens_a_bot_from_the_portal_and_uses_it(portal_url: str) -> None:
    visitor = PortalVisitor(portal_url, "bob@example.com", PASSWORD).open_bot("acme", "paperclip-1")
    assert visitor.read_greeting() == "Hello, Bob <bob@example.com>."
    traffic = run_traffic(visitor, 21)
    assert traffic.failures == []
    assert traffic.longest_wait > 0
    assert traffic.notes["b1"] == ["Note 10 during the update", "Note 20 during the update"]
    assert visitor.read_notes() == traffic.notes["b1"]


def test_a_wrong_password_and_a_missing_bot_end_the_check(portal_url: str, scene: Scene) -> None:
    with pytest.raises(DemoError, match="HTTP 422"):
        PortalVisitor(portal_url, "bob@example.com", "another password")
    bob = PortalVisitor(portal_url, "bob@example.com", PASSWORD)
    with pytest.raises(DemoError, match="no link"):
        bob.open_bot("acme", "another-bot")


def test_refused_and_broken_requests_are_failures(servers: LoopThread) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)

    with running_bot(servers) as bot:
        bot.handler = refuse
        url = f"http://acme.localhost:{bot.port}"
        traffic = run_traffic(Visitor(url), 10)
    assert traffic.failures[:10] == [f"{url} GET /notes: status 503"] * 9 + [f"{url} POST /notes: ConnectionError"]
    assert traffic.notes == {"b1": []}
    assert traffic.describe().startswith(f"{traffic.sent} failed requests, longest wait 0.")

"""A real update while people use the bot: requests wait, none fails, and sockets reconnect."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from daemon.update.sequence import update_bot
from demo.versions import SECOND, UNHEALTHY, BotVersion
from portal.models import Bot, Membership, User
from tests.support.gateway import Browser, LoopThread, RunningGateway, sign_in
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

CLIENTS = 8


@dataclass
class Load:
    """What the clients have seen."""

    statuses: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    longest_wait: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, browser: Browser) -> None:
        """Send requests in a row over one connection, every third with a body."""
        connection = http.client.HTTPConnection("127.0.0.1", browser.gateway.port, timeout=40)
        headers = {**browser.headers(), "Host": browser.host, "Content-Type": "application/x-www-form-urlencoded"}
        number = 0
        while not self.stopped.is_set():
            number += 1
            method, body = ("POST", f"text=note+{number}") if number % 3 == 0 else ("GET", None)
            began = time.monotonic()
            try:
                connection.request(method, "/notes", body, headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{method}: {error!r}")
                connection.close()
            else:
                self.statuses.append(response.status)
            self.longest_wait = max(self.longest_wait, time.monotonic() - began)
            time.sleep(0.02)
        connection.close()


@contextmanager
def load(browser: Browser) -> Iterator[Load]:
    """Send requests for the duration of a `with` block."""
    running = Load()
    clients = [threading.Thread(target=running.run, args=(browser,)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield running
    finally:
        running.stopped.set()
        for client in clients:
            client.join()


@pytest.fixture
def browser(site: Site, redis_url: str) -> Iterator[Browser]:
    """Return the owner's browser at the bot."""
    servers = LoopThread()
    settings = replace(site.settings, redis_url=redis_url, base_url="http://127.0.0.1:8000")
    gateway = RunningGateway(servers, settings, site.database)
    with site.database.transaction() as session:
        bot = session.get_one(Bot, site.bot_id)
        bot.address = site.address().removeprefix("http://")
        session.add(Membership(org_id=bot.org_id, user_id=bot.org.owner_id))
        owner = session.get_one(User, bot.org.owner_id).id
    yield sign_in(gateway, site.database, owner, site.bot_id)
    gateway.stop()
    servers.close()


@pytest.mark.parametrize("version", [SECOND, UNHEALTHY], ids=["good", "rolled back"])
def test_no_request_fails_during_an_update(site: Site, browser: Browser, version: BotVersion) -> None:
    settings = site.with_settings(health_check_timeout=timedelta(seconds=3))
    with load(browser) as running:
        time.sleep(0.5)
        update_bot(site.database, settings, site.update_to(version))
        ended = len(running.statuses)
        time.sleep(0.5)
    assert running.errors == []
    assert set(running.statuses) == {200, 303}
    assert len(running.statuses) > ended + CLIENTS, "requests continue after the update"

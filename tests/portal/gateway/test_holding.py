"""Holding: during an update requests wait instead of failing, also when messages or processes are lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from aiohttp import web

from demo.processes import free_port
from portal.database import Database
from portal.gateway import limits
from portal.models import Bot, BotUpdate, GatewayProcess, Release, Step, UpdateState, utcnow
from portal.services import changes
from portal.services.gateway import processes
from portal.services.gateway.processes import ALIVE
from tests import factories
from tests.portal.gateway.test_tunnel import echo
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, LoopThread, RunningGateway, running_bot, sign_in
from tests.support.scene import Scene
from tests.support.websocket import TEXT, open_socket

pytestmark = [pytest.mark.requests, pytest.mark.slow]


class Update:
    """A running update of the first bot, whose steps a test enters.

    Attributes:
        id: the update.
    """

    def __init__(self, database: Database, scene: Scene) -> None:
        """Add the update; the bot is still in service."""
        self._database, self._bot_id = database, scene.bots[0]
        with database.transaction() as session:
            rollout = factories.rollout(session, session.get_one(Release, scene.new))
            bot = session.get_one(Bot, self._bot_id)
            values = {"state": UpdateState.RUNNING, "step": Step.PRECREATE, "wave": 1}
            self.id = factories.update(session, rollout, bot, **values).id

    def enter(self, step: Step, publishing: Database | None = None) -> None:
        """Enter a step, with a message if `publishing` is given."""
        with (publishing or self._database).transaction() as session:
            session.get_one(BotUpdate, self.id).step = step
            changes.note_change(session, self._bot_id)

    def end(self, address: str | None = None, publishing: Database | None = None) -> None:
        """End the update; the bot may have another address now."""
        with (publishing or self._database).transaction() as session:
            update = session.get_one(BotUpdate, self.id)
            update.state, update.ended_at = UpdateState.UPDATED, utcnow()
            if address is not None:
                update.bot.address = address
            changes.note_change(session, self._bot_id)

    def has_drained(self) -> bool:
        """Return whether the bot may be stopped."""
        with self._database.reading() as session:
            return processes.has_drained(session, self.id)

    def wait_until_drained(self, seconds: float = 5) -> float:
        """Wait until the bot may be stopped, and return how long it took."""
        began = time.monotonic()
        while not self.has_drained():
            assert time.monotonic() - began < seconds, "the gateway does not report that it holds requests"
            time.sleep(0.01)
        return time.monotonic() - began


@pytest.fixture
def update(bob: Browser, database: Database, scene: Scene) -> Update:
    """Return an update of the bot that Bob uses."""
    return Update(database, scene)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Return threads for requests that wait."""
    with ThreadPoolExecutor(50) as pool:
        yield pool


@pytest.fixture(params=["with messages", "without messages"])
def messages(request: pytest.FixtureRequest, publishing: Database) -> Database | None:
    """Return the database of processes that publish their changes, and None for a lost Redis."""
    return publishing if request.param == "with messages" else None


def test_requests_wait_for_the_end_of_an_update(
    bob: Browser, bot: FakeBot, update: Update, messages: Database | None, threads: ThreadPoolExecutor
) -> None:
    assert bob.read()[0] == 200  # the decision is cached now
    update.enter(Step.DRAIN, messages)
    assert update.wait_until_drained() < (0.5 if messages else 2)
    held = [threads.submit(bob.read, f"/{number}", "POST", b"body") for number in range(40)]
    time.sleep(0.7)
    assert not any(answer.done() for answer in held)
    assert len(bot.seen) == 1
    for step in (Step.STOP, Step.SNAPSHOT, Step.START, Step.HEALTH):
        update.enter(step)
    update.end(publishing=messages)
    assert {answer.result(5)[0] for answer in held} == {200}
    assert len(bot.seen) == 41


def test_the_bot_may_move_during_an_update(
    bob: Browser, bot: FakeBot, update: Update, servers: LoopThread, threads: ThreadPoolExecutor
) -> None:
    update.enter(Step.DRAIN)
    update.wait_until_drained()
    held = threads.submit(bob.read)
    with running_bot(servers) as moved:
        update.end(moved.address)
        assert held.result(5)[0] == 200
        assert (len(bot.seen), len(moved.seen)) == (0, 1)


def test_running_requests_may_end_before_the_stop(
    bob: Browser, bot: FakeBot, update: Update, servers: LoopThread, threads: ThreadPoolExecutor
) -> None:
    may_end = threading.Event()

    async def slow(_request: web.BaseRequest) -> web.Response:
        await asyncio.to_thread(may_end.wait, 10)
        return web.Response(text="saved")

    bot.handler = slow
    running = threads.submit(bob.read, "/", "POST", b"order")
    while not bot.seen:
        time.sleep(0.01)
    update.enter(Step.DRAIN)
    time.sleep(2)
    assert not update.has_drained()
    may_end.set()
    assert running.result(5) == (200, b"saved")
    update.wait_until_drained()


def test_sockets_end_at_once_and_reconnect_after_the_update(
    bob: Browser, bot: FakeBot, update: Update, publishing: Database, threads: ThreadPoolExecutor
) -> None:
    bot.handler = echo
    with open_socket(bob) as socket:
        update.enter(Step.DRAIN, publishing)
        assert socket.wait_for_close() == 1012
    update.wait_until_drained()

    def reconnect() -> tuple[int, bytes]:
        with open_socket(bob) as socket:
            socket.send(TEXT, b"again")
            return socket.receive()

    held = threads.submit(reconnect)
    time.sleep(0.5)
    assert not held.done()
    update.end(publishing=publishing)
    assert held.result(5) == (TEXT, b"again")


def test_long_updates_have_a_page(
    bob: Browser, bot: FakeBot, update: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOLD_SECONDS", 0.5)
    update.enter(Step.DRAIN)
    update.wait_until_drained()
    with bob.open(headers={"Sec-Fetch-Mode": "navigate"}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        text = answer.read()
    assert b"Paperclip 1 is being updated" in text
    assert b'http-equiv="refresh" content="5"' in text
    assert bob.read("/", "POST", b"x")[0] == 503
    assert bot.seen == []


def test_the_number_of_waiting_requests_is_limited(
    bob: Browser, bot: FakeBot, update: Update, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.gateway.holding.MAX_HELD_PER_BOT", 3)
    update.enter(Step.DRAIN)
    update.wait_until_drained()
    waiting = [threads.submit(bob.read) for _ in range(3)]
    time.sleep(0.5)
    assert bob.read()[0] == 503
    update.end()
    assert [answer.result(5)[0] for answer in waiting] == [200, 200, 200]


def test_a_refused_connection_reads_the_row_again(
    bob: Browser, bot: FakeBot, update: Update, database: Database, threads: ThreadPoolExecutor
) -> None:
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(address=f"127.0.0.1:{free_port()}"))
    held = threads.submit(bob.read)
    time.sleep(0.2)
    # The bot was stopped before this gateway learned about the update.
    update.enter(Step.STOP)
    time.sleep(3)
    assert not held.done()
    update.end(bot.address)
    assert held.result(5)[0] == 200


@pytest.fixture
def other(
    gateway: RunningGateway, servers: LoopThread, database: Database, cast: Cast, scene: Scene
) -> Iterator[Browser]:
    """Return Bob's browser at a second gateway, which receives no messages."""
    settings = replace(gateway.settings, redis_url="redis://127.0.0.1:1/0")
    second = RunningGateway(servers, settings, database)
    yield sign_in(second, database, cast.people["bob"], scene.bots[0])
    second.stop()
    with database.reading() as session:
        alive = session.scalars(sa.select(GatewayProcess.id).where(GatewayProcess.seen_at > utcnow() - ALIVE)).all()
    assert len(alive) == 1, "only the first gateway is left"


def test_an_update_waits_for_all_gateways_but_not_for_dead_ones(
    bob: Browser, other: Browser, bot: FakeBot, update: Update, database: Database
) -> None:
    with database.transaction() as session:
        processes.record_held(session, "dead", {})
    update.enter(Step.DRAIN)
    time.sleep(2)
    assert not update.has_drained(), "the dead process might still be alive"
    with database.transaction() as session:
        session.get_one(GatewayProcess, "dead").seen_at = utcnow() - ALIVE
    update.wait_until_drained()
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(browser.read) for browser in (bob, other)]
        time.sleep(0.5)
        assert not any(answer.done() for answer in held)
        update.end()
        assert [answer.result(5)[0] for answer in held] == [200, 200]

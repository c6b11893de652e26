"""The gateway's own responses: pages for people, one line for scripts, and addresses that never reach the bot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.gateway import handler
from portal.models import (
    Bot,
    BotPhase,
    BotSync,
    DesiredState,
    Membership,
    MembershipState,
    Provisioning,
)
from tests.support.gateway import Browser, FakeBot, RunningGateway
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

Change = Callable[..., None]
PAGE = {"Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def change(database: Database, scene: Scene) -> Change:
    """Return a function that changes the row of the first bot."""

    def change_bot(**values: Any) -> None:
        with database.transaction() as session:
            session.execute(sa.update(Bot).where(Bot.id == scene.bots[0]).values(**values))

    return change_bot


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({"phase": BotPhase.CREATING}, "Paperclip 1 is getting ready for you"),
        ({"phase": BotPhase.REMOVING}, "Paperclip 1 will be removed"),
        ({"desired_state": DesiredState.STOPPED}, "Paperclip 1 is stopped"),
        ({"address": None}, "Paperclip 1 does not answer"),
        ({"address": "127.0.0.1:1"}, "Paperclip 1 does not answer"),
    ],
)
def test_a_bot_that_cannot_be_used_now_has_a_page_that_reloads(
    bob: Browser, bot: FakeBot, change: Change, values: dict[str, Any], title: str
) -> None:
    change(**values)
    with bob.open(headers=PAGE) as answer:
        text = answer.read().decode()
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert f"<h1>{title}</h1>" in text
    assert 'http-equiv="refresh"' in text
    with bob.open(headers={"Accept": "*/*"}) as answer:
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.read().decode().startswith(title)
    assert bot.seen == []


def test_a_form_for_a_bot_that_does_not_answer_gets_a_page_that_does_not_reload(
    bob: Browser, bot: FakeBot, change: Change
) -> None:
    change(address="127.0.0.1:1")
    with bob.open("/notes", "POST", b"text=a", PAGE) as answer:
        text = answer.read().decode()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    assert "<h1>Paperclip 1 does not answer</h1>" in text
    assert "What you just sent was not saved." in text
    assert "reloads automatically" not in text
    assert "data-reload-after" not in text
    assert 'http-equiv="refresh"' not in text


def test_a_form_without_a_session_gets_a_page(bob: Browser, bot: FakeBot) -> None:
    status, body = bob.read("/notes", "POST", b"text=a", {**PAGE, "Cookie": None})
    assert (status, b"<h1>You are signed out</h1>" in body, b'href="/">Sign in</a>' in body) == (401, True, True)
    assert bot.seen == []


def test_a_bot_with_member_sync_waits_for_the_person(
    bob: Browser, bot: FakeBot, database: Database, scene: Scene
) -> None:
    with database.transaction() as session:
        row = session.get(BotSync, scene.bots[0]) or BotSync(bot_id=scene.bots[0])
        row.provisioning = Provisioning.MANAGED
        session.add(row)
    status, body = bob.read(headers=PAGE)
    assert (status, b"is getting ready for you" in body) == (503, True)


def test_former_members_and_strangers_get_the_same_page(
    bob: Browser, bot: FakeBot, database: Database, gateway: RunningGateway
) -> None:
    with database.transaction() as session:
        session.execute(sa.update(Membership).values(state=MembershipState.REMOVED))
    status, removed = bob.read(headers=PAGE)
    assert status == 404
    assert b"Bot not found" in removed
    assert b"Paperclip" not in removed
    assert bob.read("/internal", headers=PAGE) == (404, removed)


@pytest.mark.parametrize("target", ["/internal", "/Internal/members", "//internal", "/%69nternal", "/internal?x"])
def test_internal_is_closed_even_for_members(bob: Browser, bot: FakeBot, target: str) -> None:
    assert bob.read(target)[0] == 404
    assert bob.read(target, "POST", b"{}")[0] == 404
    assert bot.seen == []


@pytest.mark.parametrize("target", ["/_gateway/", "/_gateway/other", "/_gateway/assets/../a", "/_gateway/assets/x"])
def test_own_paths_never_reach_the_bot(bob: Browser, bot: FakeBot, target: str) -> None:
    assert bob.read(target)[0] in {400, 404}
    assert bob.read("/_gateway/enter", "POST", b"")[0] == 405
    assert bot.seen == []


def test_assets_are_served(bob: Browser) -> None:
    with bob.open("/_gateway/assets/app.css", headers={"Cookie": None}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert b".narrow" in answer.read()


def test_other_hosts_have_a_health_check_only(bob: Browser, gateway: RunningGateway) -> None:
    for host in (f"127.0.0.1:{gateway.port}", "gateway.internal"):
        assert bob.read("/healthz", headers={"Host": host, "Cookie": None}) == (200, b'{"status": "ok"}')
        assert bob.read("/", headers={"Host": host})[0] == 404
    assert bob.read("/healthz", headers={"Host": "127.0.0.1"}, method="POST")[0] == 404


def test_any_number_of_health_checks_leaves_the_other_threads_to_decisions(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise strangers could delay decisions until the streams of all people end."""
    running: list[int] = []
    most: list[int] = []
    can_end = threading.Event()

    def probe(_session: Session) -> bool:
        running.append(1)
        most.append(len(running))
        can_end.wait(10)
        running.pop()
        return True

    monkeypatch.setattr(handler, "is_reachable", probe)
    with ExitStack() as stack:
        connections = [stack.enter_context(gateway.connect()) for _ in range(20)]
        for connection in connections:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: gateway.internal\r\n\r\n")
        time.sleep(0.2)
        can_end.set()
        assert {connection.recv(12) for connection in connections} == {b"HTTP/1.1 200"}
    assert set(most) == {1}


def test_the_bots_own_health_check_belongs_to_the_bot(bob: Browser, bot: FakeBot) -> None:
    assert bob.read("/healthz") == (200, b"GET /healthz 0")

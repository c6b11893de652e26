"""Revocation: requests are refused, and open streams and sockets end, soon after the right was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from portal.database import Database
from portal.gateway import limits
from portal.models import (
    Bot,
    BotSync,
    DesiredState,
    EventTag,
    Membership,
    MembershipRole,
    MemberSync,
    Org,
    OrgState,
    Provisioning,
    User,
    utcnow,
)
from portal.services import changes, events
from portal.services.accounts import sessions
from portal.services.orgs import memberships
from portal.settings import Settings
from tests.portal.gateway.test_tunnel import echo
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot, LoopThread, RunningGateway, sign_in
from tests.support.scene import Scene
from tests.support.websocket import TEXT, open_socket

pytestmark = [pytest.mark.requests, pytest.mark.slow]

Change = Callable[[Session, Cast, Scene], None]
Apply = Callable[[Database, Change], None]
LIMIT_SECONDS = 5.0


def remove_member(session: Session, cast: Cast, scene: Scene) -> None:
    """Let Alice remove Bob from the organization."""
    org, alice = session.get_one(Org, cast.org_id), session.get_one(User, cast.people["alice"])
    bob = session.scalars(sa.select(Membership).where(Membership.user_id == cast.people["bob"])).one()
    memberships.remove_member(session, org, bob.id, version=bob.version, actor=alice, now=utcnow())


def end_session(session: Session, cast: Cast, scene: Scene) -> None:
    """End Bob's sessions in the portal."""
    sessions.end_all(session, cast.people["bob"], utcnow(), actor=None)


def disable_account(session: Session, cast: Cast, scene: Scene) -> None:
    """Disable Bob's account."""
    session.get_one(User, cast.people["bob"]).disabled_at = utcnow()
    events.record(session, EventTag.USER_DISABLED, data={"user_id": cast.people["bob"]})


def delete_org(session: Session, cast: Cast, scene: Scene) -> None:
    """Let the deletion of the organization begin."""
    session.get_one(Org, cast.org_id).state = OrgState.DELETING
    events.record(session, EventTag.ORG_DELETION_REQUESTED, org_id=cast.org_id)


def stop_bot(session: Session, cast: Cast, scene: Scene) -> None:
    """Stop the bot."""
    session.get_one(Bot, scene.bots[0]).desired_state = DesiredState.STOPPED
    events.record(session, EventTag.BOT_STOPPED, bot_id=scene.bots[0])


async def stream(request: web.BaseRequest) -> web.StreamResponse:
    """Send an event every 50 milliseconds; echo on sockets; answer HEAD requests at once."""
    if request.headers.get("Upgrade"):
        return await echo(request)
    if request.method == "HEAD":
        return web.Response()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(2000):
        await response.write(f"data: {number}\n\n".encode())
        await asyncio.sleep(0.05)
    return response


@pytest.fixture
def apply(cast: Cast, scene: Scene) -> Apply:
    """Return a function that makes a change in a database."""

    def change(database: Database, revoke: Change) -> None:
        with database.transaction() as session:
            revoke(session, cast, scene)

    return change


@contextmanager
def open_streams(browser: Browser, bot: FakeBot) -> Iterator[Callable[[], tuple[int, float]]]:
    """Open a socket and a stream. Yield a function that waits for their ends: the close code, and the seconds."""
    bot.handler = stream
    with open_socket(browser) as socket, browser.open("/events") as events_stream:
        socket.send(TEXT, b"hello")
        assert socket.receive() == (TEXT, b"hello")
        assert events_stream.readline() == b"data: 0\n"

        def wait() -> tuple[int, float]:
            began = time.monotonic()
            code = socket.wait_for_close()
            try:
                while events_stream.readline():
                    pass
            except (OSError, ValueError):
                pass
            return code, time.monotonic() - began

        yield wait


@pytest.mark.parametrize("revoke", [remove_member, end_session, disable_account, delete_org, stop_bot])
def test_a_message_ends_access_at_once(
    bob: Browser, bot: FakeBot, publishing: Database, apply: Apply, revoke: Change
) -> None:
    with open_streams(bob, bot) as wait_for_end:
        assert bob.read("/", "HEAD")[0] == 200
        apply(publishing, revoke)
        code, seconds = wait_for_end()
        assert code == 1008
        assert seconds < 1
        assert bob.read("/", headers={"Accept": "*/*"})[0] in {401, 404, 503}


@pytest.mark.parametrize("revoke", [remove_member, end_session, stop_bot])
def test_without_a_message_access_ends_within_the_limit(
    bob: Browser, bot: FakeBot, database: Database, apply: Apply, revoke: Change
) -> None:
    with open_streams(bob, bot) as wait_for_end:
        apply(database, revoke)
        code, seconds = wait_for_end()
        assert code == 1008
        assert seconds < LIMIT_SECONDS
        assert bob.read("/", headers={"Accept": "*/*"})[0] in {401, 404, 503}


@pytest.fixture
def without_redis(
    settings: Settings, database: Database, servers: LoopThread, cast: Cast, scene: Scene
) -> Iterator[Browser]:
    """Return Bob's browser at a gateway without Redis."""
    changed = replace(settings, redis_url="redis://127.0.0.1:1/0", base_url="http://127.0.0.1:8000")
    gateway = RunningGateway(servers, changed, database)
    yield sign_in(gateway, database, cast.people["bob"], scene.bots[0])
    gateway.stop()


def test_without_redis_the_gateway_works_and_access_ends_within_the_limit(
    without_redis: Browser, bot: FakeBot, database: Database, apply: Apply
) -> None:
    with open_streams(without_redis, bot) as wait_for_end:
        apply(database, remove_member)
        code, seconds = wait_for_end()
        assert (code, seconds < LIMIT_SECONDS) == (1008, True)


@pytest.fixture
def carol(gateway: RunningGateway, database: Database, cast: Cast, scene: Scene) -> Browser:
    """Return Carol's browser at the first bot."""
    return sign_in(gateway, database, cast.people["carol"], scene.bots[0])


def test_others_keep_their_streams(
    bob: Browser, carol: Browser, bot: FakeBot, publishing: Database, apply: Apply
) -> None:
    bot.handler = echo
    with open_socket(carol) as socket, open_socket(bob) as other:
        apply(publishing, remove_member)
        assert other.wait_for_close() == 1008
        time.sleep(3)
        socket.send(TEXT, b"still here")
        assert socket.receive() == (TEXT, b"still here")


class Carol:
    """Carol, who is an admin, at a bot with member sync that knows her."""

    def __init__(self, browser: Browser, cast: Cast, publishing: Database, bot_id: str) -> None:
        """Let the bot confirm her role."""
        self.browser = browser
        self._database, self._cast, self._bot_id = publishing, cast, bot_id
        with publishing.transaction() as session:
            session.get_one(Bot, bot_id).company_id = "company"
            sync = session.get(BotSync, bot_id) or BotSync(bot_id=bot_id)
            sync.provisioning = Provisioning.MANAGED
            session.add(sync)
        self.change_role(MembershipRole.MEMBER)
        self.change_role(MembershipRole.ADMIN)
        self.confirm()

    def change_role(self, role: MembershipRole) -> None:
        """Let Alice change her role."""
        with self._database.transaction() as session:
            org, alice = session.get_one(Org, self._cast.org_id), session.get_one(User, self._cast.people["alice"])
            of_carol = Membership.user_id == self._cast.people["carol"]
            row = session.scalars(sa.select(Membership).where(of_carol)).one()
            now = utcnow()
            memberships.change_role(session, org, row.id, role, version=row.version, actor=alice, now=now)

    def confirm(self) -> None:
        """Let the bot confirm her desired role."""
        of_carol = MemberSync.user_id == self._cast.people["carol"]
        with self._database.transaction() as session:
            row = session.scalars(sa.select(MemberSync).where(of_carol, MemberSync.bot_id == self._bot_id)).one()
            row.observed_role, row.observed_version = row.desired_role, row.desired_version
            row.observed_epoch = session.get_one(Bot, self._bot_id).epoch

    def restore_bot(self) -> None:
        """Let the data of the bot be restored, and with it a former role."""
        with self._database.transaction() as session:
            session.get_one(Bot, self._bot_id).epoch += 1
            changes.note_change(session, self._bot_id)


@pytest.fixture
def synced(carol: Browser, bot: FakeBot, publishing: Database, cast: Cast, scene: Scene) -> Carol:
    """Return Carol at a bot with member sync."""
    return Carol(carol, cast, publishing, scene.bots[0])


def wait_for_status(browser: Browser, status: int) -> None:
    """Wait until a request is answered with this status."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while browser.read("/", "HEAD")[0] != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "lower",
    [lambda carol: carol.change_role(MembershipRole.MEMBER), lambda carol: carol.restore_bot()],
    ids=["demotion", "restored data"],
)
def test_a_person_whose_rights_in_the_bot_are_too_high_stays_out_until_the_bot_has_confirmed(
    synced: Carol, bot: FakeBot, lower: Callable[[Carol], None]
) -> None:
    wait_for_status(synced.browser, 200)
    with open_streams(synced.browser, bot) as wait_for_end:
        lower(synced)
        code, seconds = wait_for_end()
        assert (code, seconds < 1) == (1008, True)
    assert synced.browser.read("/", "HEAD")[0] == 503
    synced.confirm()
    wait_for_status(synced.browser, 200)


def test_a_demotion_ends_streams_although_the_bot_confirms_it_before_the_next_look(
    synced: Carol, bot: FakeBot, publishing: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_status(synced.browser, 200)
    with open_streams(synced.browser, bot) as wait_for_end:
        with monkeypatch.context() as without_messages:
            without_messages.setattr(publishing, "_after_commit", None)
            synced.change_role(MembershipRole.MEMBER)
            synced.confirm()
        code, seconds = wait_for_end()
        assert (code, seconds < LIMIT_SECONDS) == (1008, True)
    assert synced.browser.read("/", "HEAD")[0] == 200


def test_a_raise_keeps_streams_and_old_rights(synced: Carol, bot: FakeBot) -> None:
    synced.change_role(MembershipRole.MEMBER)
    synced.confirm()
    wait_for_status(synced.browser, 200)
    bot.handler = echo
    with open_socket(synced.browser) as socket:
        synced.change_role(MembershipRole.ADMIN)
        time.sleep(limits.DECISION_SECONDS + 1)
        socket.send(TEXT, b"still here")
        assert socket.receive() == (TEXT, b"still here")


@contextmanager
def broken_database(gateway: RunningGateway) -> Iterator[None]:
    """Let all statements of the gateway fail."""

    def fail(*_arguments: object) -> None:
        raise OperationalError("a statement", {}, Exception("the server is gone"))

    engine = gateway.database.engine
    sa.event.listen(engine, "before_cursor_execute", fail)
    yield
    sa.event.remove(engine, "before_cursor_execute", fail)


def test_without_a_database_nothing_is_decided_and_streams_end(
    bob: Browser, bot: FakeBot, gateway: RunningGateway
) -> None:
    with open_streams(bob, bot) as wait_for_end:
        assert bob.read("/", "HEAD")[0] == 200
        with broken_database(gateway):
            began = time.monotonic()
            while bob.read("/", "HEAD")[0] == 200:
                time.sleep(0.05)
            assert bob.read("/", "HEAD")[0] == 503
            assert time.monotonic() - began < limits.DECISION_SECONDS + 0.5
            _, seconds = wait_for_end()
            assert seconds < LIMIT_SECONDS
            assert bob.read("/healthz", headers={"Host": "127.0.0.1"})[0] == 503
    assert bob.read("/", "HEAD")[0] == 200
    assert bob.read("/healthz", headers={"Host": "127.0.0.1"})[0] == 200

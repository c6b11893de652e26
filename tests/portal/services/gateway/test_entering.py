"""Tickets and sessions of the gateway."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, Event, EventTag, GatewaySession, GatewayTicket, User, UserSession, utcnow
from portal.services.accounts import sessions
from portal.services.gateway import entering
from portal.tokens import fingerprint
from tests.support.cast import Cast
from tests.support.scene import Scene

STATE = "state-of-the-browser"


@pytest.fixture
def portal_session(database: Database, cast: Cast) -> str:
    """Hash of Bob's session in the portal."""
    with database.transaction() as session:
        return fingerprint(sessions.start(session, cast.people["bob"], now=utcnow(), user_agent="", ip=""))


def mint(database: Database, scene: Scene, portal_session: str) -> str:
    """Mint a ticket for the first bot."""
    with database.transaction() as session:
        return entering.mint_ticket(session, scene.bots[0], portal_session, STATE, utcnow())


def redeem(
    database: Database, ticket: str, *, subdomain: str = "paperclip-1", state: str = STATE, seconds: float = 0
) -> str | None:
    """Redeem a ticket some seconds later."""
    with database.transaction() as session:
        return entering.redeem_ticket(session, ticket, subdomain, state, utcnow() + timedelta(seconds=seconds))


def test_a_ticket_is_valid_once(database: Database, scene: Scene, portal_session: str, cast: Cast) -> None:
    ticket = mint(database, scene, portal_session)
    token = redeem(database, ticket)
    assert token is not None
    assert redeem(database, ticket) is None
    with database.reading() as session:
        row = session.scalars(sa.select(GatewaySession)).one()
        assert (row.token_hash, row.bot_id) == (fingerprint(token), scene.bots[0])
        opened = session.scalars(sa.select(Event).where(Event.tag == EventTag.BOT_OPENED)).one()
        assert (opened.actor_id, opened.bot_id) == (cast.people["bob"], scene.bots[0])
        stored = [
            *session.execute(sa.select(GatewayTicket.token_hash, GatewayTicket.state_hash)).one(),
            row.token_hash,
        ]
        assert not {ticket, STATE, token} & set(stored)


def test_a_ticket_is_bound_to_bot_and_browser(database: Database, scene: Scene, portal_session: str) -> None:
    ticket = mint(database, scene, portal_session)
    assert redeem(database, ticket, subdomain="paperclip-2") is None
    assert redeem(database, ticket, state="state of another browser") is None
    assert redeem(database, "unknown") is None
    assert redeem(database, ticket, seconds=61) is None
    assert redeem(database, ticket, seconds=59) is not None


def test_a_ticket_dies_with_the_portal_session(
    database: Database, scene: Scene, portal_session: str, cast: Cast
) -> None:
    ticket = mint(database, scene, portal_session)
    with database.transaction() as session:
        sessions.end_all(session, cast.people["bob"], utcnow(), actor=None)
    assert redeem(database, ticket) is None


def test_a_disabled_user_cannot_redeem(database: Database, scene: Scene, portal_session: str, cast: Cast) -> None:
    ticket = mint(database, scene, portal_session)
    with database.transaction() as session:
        session.get_one(User, cast.people["bob"]).disabled_at = utcnow()
    assert redeem(database, ticket) is None


@pytest.mark.every_database
def test_sessions_follow_the_portal_session(database: Database, scene: Scene, portal_session: str) -> None:
    ticket = mint(database, scene, portal_session)
    unused = mint(database, scene, portal_session)
    assert redeem(database, ticket) is not None
    with database.transaction() as session:
        rotated = fingerprint(sessions.rotate_token(session, portal_session))
    with database.reading() as session:
        assert session.scalars(sa.select(GatewaySession.portal_session)).one() == rotated
    assert redeem(database, unused) is not None
    with database.transaction() as session:
        session.execute(sa.delete(UserSession))
        assert session.scalars(sa.select(GatewaySession)).all() == []


def test_sessions_end_with_the_bot(database: Database, scene: Scene, portal_session: str) -> None:
    assert redeem(database, mint(database, scene, portal_session)) is not None
    with database.transaction() as session:
        session.execute(sa.delete(Bot).where(Bot.id == scene.bots[0]))
        assert session.scalars(sa.select(GatewaySession)).all() == []

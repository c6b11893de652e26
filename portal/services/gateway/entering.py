"""Entering a bot: tickets of the portal, and the sessions of the gateway that they start. Used by portal and gateway.

The portal and each bot have separate hosts, so that a bot never receives the cookie of the portal. A ticket carries
the right to enter from the portal's host to the bot's host. It is valid once, for one bot, and only together with the
state cookie that the gateway gave to the same browser before.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from portal.models import Bot, EventTag, GatewaySession, GatewayTicket, update_where
from portal.services import events
from portal.services.accounts import sessions
from portal.tokens import fingerprint, generate_token

TICKET_LIFETIME = timedelta(seconds=60)
MAX_PATH = 2000
"""Longest path to which a person is led after entering; others begin at the bot's first page."""
_STATE = re.compile(r"[\w-]{43}", re.ASCII)


def is_state(text: str) -> bool:
    """Return whether a text can be the value of a state cookie, which the gateway generates."""
    return _STATE.fullmatch(text) is not None


def mint_ticket(session: Session, bot_id: str, portal_session: str, state: str, now: datetime) -> str:
    """Create a ticket for a user who may open the bot.

    Args:
        session: a writing transaction.
        bot_id: the bot.
        portal_session: hash of the user's session in the portal.
        state: value of the state cookie at the bot's host.
        now: the current time.

    Returns:
        The ticket. It is stored nowhere else.
    """
    token = generate_token()
    session.add(
        GatewayTicket(
            token_hash=fingerprint(token),
            bot_id=bot_id,
            portal_session=portal_session,
            state_hash=fingerprint(state),
            expires_at=now + TICKET_LIFETIME,
        )
    )
    session.flush()
    return token


def redeem_ticket(session: Session, ticket: str, subdomain: str, state: str, now: datetime) -> str | None:
    """Exchange a ticket for a session of the gateway. Of two simultaneous calls, one succeeds.

    Args:
        session: a writing transaction.
        ticket: the ticket.
        subdomain: the bot to whose host the browser brought the ticket.
        state: value of the state cookie.
        now: the current time.

    Returns:
        The token for the session cookie; None if the ticket is not valid for this browser and this bot.
    """
    row = session.get(GatewayTicket, fingerprint(ticket))
    if row is None or row.state_hash != fingerprint(state) or row.expires_at <= now:
        return None
    bot = session.get_one(Bot, row.bot_id)
    portal_session = sessions.find_by_hash(session, row.portal_session, now)
    if bot.subdomain != subdomain or portal_session is None or not _claim(session, row, now):
        return None
    token = generate_token()
    session.add(
        GatewaySession(
            token_hash=fingerprint(token), bot_id=bot.id, portal_session=portal_session.id_hash, created_at=now
        )
    )
    events.record(session, EventTag.BOT_OPENED, actor=portal_session.user_id, org_id=bot.org_id, bot_id=bot.id)
    return token


def _claim(session: Session, row: GatewayTicket, now: datetime) -> bool:
    is_unused = GatewayTicket.used_at.is_(None)
    return (
        update_where(session, GatewayTicket, GatewayTicket.token_hash == row.token_hash, is_unused, used_at=now) == 1
    )

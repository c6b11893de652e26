"""Bots for new organizations: find a place for them as soon as there is one. Used by the scheduler and pages.

`portal.services.orgs.creation` adds the request in the transaction that creates the organization, so that a missing
node or an empty template never refuses an organization.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import Bot, BotRequest, Org, OrgState, update_where
from portal.rules.allowlist import Allowlist
from portal.services.bots import creation
from portal.services.errors import ServiceError
from portal.services.orgs import orgs

_RETRY_WAIT = timedelta(seconds=30)
_AT_ONCE = 20


def find_request(session: Session, org: Org) -> BotRequest | None:
    """Return the request of an organization that waits for its first bot, or None."""
    return session.get(BotRequest, org.id)


def list_waiting(session: Session, limit: int) -> Sequence[BotRequest]:
    """List the requests that could not be fulfilled yet, oldest first."""
    return session.scalars(_select_active().where(BotRequest.error.is_not(None)).limit(limit)).all()


def list_due(session: Session, now: datetime) -> Sequence[str]:
    """List ids of organizations that wait for a bot and for which it is time to try again, oldest request first."""
    due = _select_active().where(BotRequest.due_at <= now).limit(_AT_ONCE)
    return [request.org_id for request in session.scalars(due)]


def fulfil(session: Session, allowlist: Allowlist, org_id: str, now: datetime) -> Bot | None:
    """Create the bot for which an organization waits, or record why that is not possible yet.

    Args:
        session: a writing transaction of this request alone.
        allowlist: the images that may run.
        org_id: the organization.
        now: the moment.

    Returns:
        The bot; None when it could not be created, or the request was fulfilled in between.
    """
    # Under the lock, because an operator may create the first bot at the same moment.
    orgs.lock_org(session, session.get_one(Org, org_id))
    request = session.get(BotRequest, org_id)
    if request is None:
        return None
    try:
        with session.begin_nested():
            return creation.create_bot(session, allowlist, request.org, now=now)
    except ServiceError as error:
        values = {"error": str(error), "due_at": now + _RETRY_WAIT}
        update_where(session, BotRequest, BotRequest.org_id == org_id, **values)
        return None


def _select_active() -> sa.Select[BotRequest]:
    return (
        sa.select(BotRequest)
        .join(BotRequest.org)
        .where(Org.state == OrgState.ACTIVE)
        .options(contains_eager(BotRequest.org))
        .order_by(BotRequest.requested_at, BotRequest.org_id)
    )

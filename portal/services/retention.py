"""Deletion of expired rows, and of what old updates and alerts need no more. Used by an hourly job."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from portal.models import (
    AlertDelivery,
    AlertState,
    Base,
    BotStateChange,
    BotUpdate,
    ForkSync,
    GatewayProcess,
    GatewayTicket,
    MailState,
    OneTimeToken,
    OutgoingMail,
    UserSession,
)
from portal.services import fork_syncs
from portal.services.alerts import delivery as alert_delivery
from portal.services.bots import state_changes
from portal.services.mail import outbox

KEEP_LINKS = timedelta(days=7)
KEEP_TICKETS = timedelta(hours=1)
KEEP_GATEWAY_PROCESSES = timedelta(days=1)
KEEP_SESSIONS = timedelta(days=30)
KEEP_MAILS = timedelta(days=90)
KEEP_DESCRIPTIONS = timedelta(days=7)
"""How long the description of the old container stays, which is most of the row of an update."""

_BATCH_SIZE = 1000
_LARGE_BATCH = 20_000
"""For small rows, of which a bot that becomes unhealthy and healthy all the time makes thousands a day."""


def delete_expired(session: Session, now: datetime) -> None:
    """Delete expired rows, at most a batch of each kind, so that the transaction stays short.

    Mails of `outbox.KEPT_TEMPLATES` stay, because their rows prevent that the same mail is sent twice.

    Args:
        session: the transaction.
        now: the moment.
    """
    # Used links need no rule: every link expires within an hour.
    _delete(session, OneTimeToken, OneTimeToken.expires_at < now - KEEP_LINKS)
    _delete(session, UserSession, UserSession.expires_at < now - KEEP_SESSIONS, _has_later_session())
    _delete(session, GatewayTicket, GatewayTicket.expires_at < now - KEEP_TICKETS)
    # A process that ends removes its row. Rows of killed processes stay.
    _delete(session, GatewayProcess, GatewayProcess.seen_at < now - KEEP_GATEWAY_PROCESSES)
    _delete(session, BotStateChange, BotStateChange.at < now - state_changes.KEEP_CHANGES, limit=_LARGE_BATCH)
    _delete(session, ForkSync, ForkSync.scheduled_for < now - fork_syncs.KEEP_SYNCS)
    _delete(
        session,
        AlertDelivery,
        AlertDelivery.state != AlertState.PENDING,
        AlertDelivery.created_at < now - alert_delivery.KEEP_DELIVERIES,
    )
    _delete(
        session,
        OutgoingMail,
        OutgoingMail.state.in_([MailState.SENT, MailState.FAILED, MailState.CANCELLED]),
        # The moment of the last attempt, in these states.
        OutgoingMail.next_attempt_at < now - KEEP_MAILS,
        OutgoingMail.template.not_in(outbox.KEPT_TEMPLATES),
    )
    _trim_updates(session, now)


def _trim_updates(session: Session, now: datetime) -> None:
    """Delete what only the workers of an update need, once its engine holds nothing of it any more.

    An update whose bot needs attention is not cleaned up, and keeps everything for an operator.
    """
    old = sa.and_(
        BotUpdate.saved_container.is_not(None),
        BotUpdate.cleaned_at < now - KEEP_DESCRIPTIONS,
        BotUpdate.state.in_(BotUpdate.LEAVES_TRACES),
    )
    batch = sa.select(BotUpdate.id).where(old).order_by(BotUpdate.cleaned_at).limit(_BATCH_SIZE)
    trimmed = sa.update(BotUpdate).where(BotUpdate.id.in_(batch)).values(saved_container=sa.null(), journal={})
    session.execute(trimmed.execution_options(synchronize_session=False))


def _has_later_session() -> sa.ColumnElement[bool]:
    """Return the condition for sessions whose user was seen later in another session.

    The latest session stays, because it shows operators when the user was last seen.
    """
    other = aliased(UserSession)
    return sa.exists().where(other.user_id == UserSession.user_id, other.last_seen_at > UserSession.last_seen_at)


def _delete(
    session: Session, table: type[Base], *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> None:
    (key,) = sa.inspect(table).primary_key
    batch = sa.select(key).where(*conditions).limit(limit or _BATCH_SIZE)
    session.execute(sa.delete(table).where(key.in_(batch)).execution_options(synchronize_session=False))

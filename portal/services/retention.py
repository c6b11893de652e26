"""What has had its time is taken away: links that died, sessions that ended, mails that went out long ago."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from portal.models import Base, MailState, OneTimeToken, OutgoingMail, UserSession
from portal.services.mail import outbox

KEEP_LINKS = timedelta(days=7)
KEEP_SESSIONS = timedelta(days=30)
KEEP_MAILS = timedelta(days=90)

_AT_ONCE = 1000


def delete_expired(session: Session, now: datetime) -> None:
    """Delete what nobody needs any more, of each kind as much as keeps the transaction short.

    Mails that are sent once for ever stay, for the row is what keeps the same one from being written again. All
    others are about a row or an event of their own and are written once anyway.

    Args:
        session: the transaction.
        now: the present.
    """
    # A link that was used goes with the rest: none lives for longer than an hour.
    _delete(session, OneTimeToken, OneTimeToken.expires_at < now - KEEP_LINKS)
    _delete(session, UserSession, UserSession.expires_at < now - KEEP_SESSIONS, _was_followed())
    _delete(
        session,
        OutgoingMail,
        OutgoingMail.state.in_([MailState.SENT, MailState.FAILED]),
        # Of these it is when their last attempt was.
        OutgoingMail.next_attempt_at < now - KEEP_MAILS,
        OutgoingMail.template.not_in(outbox.KEPT_TEMPLATES),
    )


def _was_followed() -> sa.ColumnElement[bool]:
    """Whether its user was seen in another session later; the latest one tells operators when that was."""
    other = aliased(UserSession)
    return sa.exists().where(other.user_id == UserSession.user_id, other.last_seen_at > UserSession.last_seen_at)


def _delete(session: Session, table: type[Base], *conditions: sa.ColumnElement[bool]) -> None:
    (key,) = sa.inspect(table).primary_key
    chosen = sa.select(key).where(*conditions).limit(_AT_ONCE)
    session.execute(sa.delete(table).where(key.in_(chosen)).execution_options(synchronize_session=False))

"""Delivery attempts of the outbox: due emails, claims and outcomes. Used by the scheduler and the sender.

A worker claims an attempt by compare-and-set. The claim expires at `next_attempt_at`, which also serves as the
fencing token, because no two attempts of one email expire at the same moment. When a worker dies while sending, its
claim expires and the email is sent again with the same Message-ID.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import make_msgid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import EventTag, MailState, OutgoingMail, update_where
from portal.services import events

ATTEMPT_LEASE = timedelta(minutes=3)
"""Duration of a claim. It is longer than all time limits of the sender together, so that no two workers send the same
email at once."""

MAX_ATTEMPTS = 152
"""Number of attempts before an email fails. With the pauses in between they take three days."""

_FIRST_PAUSE = timedelta(seconds=5)
_MAX_PAUSE = timedelta(minutes=30)
_OUTAGE_PAUSE = timedelta(seconds=30)
_BATCH_SIZE = 100


def list_due(session: Session, now: datetime, *, repeated: bool) -> list[str]:
    """Return the ids of due emails, the longest-waiting first, including those whose claim has expired.

    Args:
        session: a transaction.
        now: the current moment in UTC.
        repeated: whether to list emails with earlier attempts, or those without. They are listed apart, so that many
            recipients whose server is slow do not fill the list.
    """
    return list(
        session.scalars(
            sa.select(OutgoingMail.id)
            .where(
                OutgoingMail.state.in_([MailState.PENDING, MailState.SENDING]),
                OutgoingMail.next_attempt_at <= now,
                OutgoingMail.attempts > 0 if repeated else OutgoingMail.attempts == 0,
            )
            .order_by(OutgoingMail.next_attempt_at)
            .limit(_BATCH_SIZE)
        )
    )


def claim_attempt(session: Session, mail_id: str, domain: str, now: datetime) -> OutgoingMail | None:
    """Claim a delivery attempt of an email.

    Args:
        session: a transaction.
        mail_id: the outbox row.
        domain: the domain of the Message-ID.
        now: the current moment in UTC.

    Returns:
        The email with the number of this attempt; None if it is not due or another worker has claimed it.
    """
    mail = session.get(OutgoingMail, mail_id)
    if mail is None or mail.state not in {MailState.PENDING, MailState.SENDING}:
        return None
    claimed = _update_claimed(
        session,
        mail,
        OutgoingMail.state == mail.state,
        OutgoingMail.next_attempt_at <= now,
        state=MailState.SENDING,
        attempts=mail.attempts + 1,
        message_id=mail.message_id or make_msgid(domain=domain),
        next_attempt_at=now + ATTEMPT_LEASE,
    )
    return mail if claimed else None


def mark_sent(session: Session, mail: OutgoingMail, now: datetime) -> bool:
    """Record that the server accepted the email.

    Args:
        session: a transaction.
        mail: the email as returned by `claim_attempt`.
        now: the current moment in UTC.

    Returns:
        False if the claim had expired and another attempt has begun. The same holds for the other outcomes.
    """
    return _record_outcome(session, mail, state=MailState.SENT, sent_at=now, last_error=None)


def mark_deferred(session: Session, mail: OutgoingMail, reason: str, now: datetime) -> bool:
    """Schedule the next attempt after a pause that doubles with every attempt, or fail after `MAX_ATTEMPTS`."""
    if mail.attempts >= MAX_ATTEMPTS:
        return mark_failed(session, mail, f"Gave up after {mail.attempts} attempts. {reason}")
    pause = min(_FIRST_PAUSE * 2 ** min(mail.attempts - 1, 20), _MAX_PAUSE)
    return _record_outcome(session, mail, state=MailState.PENDING, next_attempt_at=now + pause, last_error=reason)


def mark_waiting_for_server(session: Session, mail: OutgoingMail, reason: str, now: datetime) -> bool:
    """Keep the email until a mail server is configured; the attempts before that do not count."""
    return _record_outcome(
        session,
        mail,
        state=MailState.PENDING,
        attempts=1,
        next_attempt_at=now + _OUTAGE_PAUSE,
        last_error=reason,
    )


def mark_failed(session: Session, mail: OutgoingMail, reason: str) -> bool:
    """Record that the server refused the email permanently, or that the last attempt failed. Operators decide."""
    if not _record_outcome(session, mail, state=MailState.FAILED, last_error=reason):
        return False
    # Without the reason: answers of mail servers often repeat the address, and an event is never erased.
    data = {"mail": mail.id, "email": mail.to, "template": mail.template, "attempts": mail.attempts}
    events.record(session, EventTag.MAIL_FAILED, data=data)
    return True


def mark_cancelled(session: Session, mail: OutgoingMail, reason: str) -> bool:
    """Record that the email is not sent, because it is no longer needed."""
    return _record_outcome(session, mail, state=MailState.CANCELLED, last_error=reason)


def defer_others(session: Session, mail: OutgoingMail, now: datetime) -> None:
    """Postpone all other pending emails, because the server cannot be used and workers would only wait for it.

    The given email keeps its own, shorter pauses and so detects when the server is back.
    """
    until = now + _OUTAGE_PAUSE
    waiting = (
        sa.select(OutgoingMail.id)
        .where(
            OutgoingMail.id != mail.id, OutgoingMail.state == MailState.PENDING, OutgoingMail.next_attempt_at < until
        )
        # Several workers detect the outage at once and must not wait for each other's row locks.
        .with_for_update(skip_locked=True)
    )
    session.execute(
        sa.update(OutgoingMail)
        .where(OutgoingMail.id.in_(waiting))
        .values(next_attempt_at=until)
        .execution_options(synchronize_session=False)
    )


def _record_outcome(session: Session, mail: OutgoingMail, **values: Any) -> bool:
    return _update_claimed(session, mail, OutgoingMail.state == MailState.SENDING, **values)


def _update_claimed(session: Session, mail: OutgoingMail, *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
    unchanged = (OutgoingMail.id == mail.id, OutgoingMail.next_attempt_at == mail.next_attempt_at)
    changed = update_where(session, OutgoingMail, *unchanged, *conditions, **values)
    if mail in session:
        session.refresh(mail)
    return changed == 1

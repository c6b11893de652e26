"""Attempts at sending the outbox's mails: who may try, when, and what came of it.

An attempt is claimed by compare-and-set and lasts for a while; the moment until which it lasts is the fence, for no
two attempts at a mail last until the same one. A worker that dies while sending loses its claim by time, and the mail
goes out again under the same Message-ID.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import make_msgid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import MailState, OutgoingMail, update_where

ATTEMPT_LEASE = timedelta(minutes=3)
"""Longer than the sender's time limits add up to, so that nobody sends what somebody else is still sending."""

MAX_ATTEMPTS = 152
"""So many before giving up: with the pauses between them they take three days."""

_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=30)
_OUTAGE_PAUSE = timedelta(seconds=30)
_AT_ONCE = 100


def list_due(session: Session, now: datetime) -> list[str]:
    """Ids of the mails to be sent now, the ones that wait longest first; among them those whose sender died."""
    return list(
        session.scalars(
            sa.select(OutgoingMail.id)
            .where(
                OutgoingMail.state.in_([MailState.PENDING, MailState.SENDING]),
                OutgoingMail.next_attempt_at <= now,
            )
            .order_by(OutgoingMail.next_attempt_at)
            .limit(_AT_ONCE)
        )
    )


def claim_attempt(session: Session, mail_id: str, domain: str, now: datetime) -> OutgoingMail | None:
    """Begin an attempt at a mail.

    Args:
        session: a transaction.
        mail_id: the mail.
        domain: what a Message-ID ends with.
        now: the present.

    Returns:
        The mail, with the number of this attempt; None when it is not due, or somebody else is at it.
    """
    mail = session.get(OutgoingMail, mail_id)
    if mail is None or mail.state not in {MailState.PENDING, MailState.SENDING}:
        return None
    claimed = _change(
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
    """The server took the mail.

    Args:
        session: a transaction.
        mail: as `claim` gave it.
        now: the present.

    Returns:
        False when the attempt had lasted too long and another one began; so for the other outcomes.
    """
    return _settle(session, mail, state=MailState.SENT, sent_at=now, last_error=None)


def mark_deferred(session: Session, mail: OutgoingMail, reason: str, now: datetime) -> bool:
    """It did not work this time: try again after a pause that doubles with every attempt, for three days in all."""
    if mail.attempts >= MAX_ATTEMPTS:
        return mark_refused(session, mail, f"Given up after {mail.attempts} attempts. {reason}")
    pause = min(_FIRST_PAUSE * 2 ** min(mail.attempts - 1, 20), _LONGEST_PAUSE)
    return _settle(session, mail, state=MailState.PENDING, next_attempt_at=now + pause, last_error=reason)


def mark_waiting_for_server(session: Session, mail: OutgoingMail, reason: str, now: datetime) -> bool:
    """There is no server to send it to: however long that lasts it waits, and the three days begin once there is."""
    return _settle(
        session,
        mail,
        state=MailState.PENDING,
        attempts=1,
        next_attempt_at=now + _OUTAGE_PAUSE,
        last_error=reason,
    )


def mark_refused(session: Session, mail: OutgoingMail, reason: str) -> bool:
    """It will never work: the server refused the mail for good, or there is no reason for it any more."""
    return _settle(session, mail, state=MailState.FAILED, last_error=reason)


def defer_others(session: Session, mail: OutgoingMail, now: datetime) -> None:
    """The server cannot be used: let all other mails wait a little, so that they do not keep workers busy in vain.

    The mail that found out goes on trying after its own, shorter pauses.
    """
    until = now + _OUTAGE_PAUSE
    waiting = (
        sa.select(OutgoingMail.id)
        .where(
            OutgoingMail.id != mail.id, OutgoingMail.state == MailState.PENDING, OutgoingMail.next_attempt_at < until
        )
        # Several workers find out at once; none of them waits for another.
        .with_for_update(skip_locked=True)
    )
    session.execute(
        sa.update(OutgoingMail)
        .where(OutgoingMail.id.in_(waiting))
        .values(next_attempt_at=until)
        .execution_options(synchronize_session=False)
    )


def _settle(session: Session, mail: OutgoingMail, **values: Any) -> bool:
    return _change(session, mail, OutgoingMail.state == MailState.SENDING, **values)


def _change(session: Session, mail: OutgoingMail, *conditions: sa.ColumnElement[bool], **values: Any) -> bool:
    unchanged = (OutgoingMail.id == mail.id, OutgoingMail.next_attempt_at == mail.next_attempt_at)
    changed = update_where(session, OutgoingMail, *unchanged, *conditions, **values)
    if mail in session:
        session.refresh(mail)
    return changed == 1

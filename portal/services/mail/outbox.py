"""The mail outbox: queue, list and resend emails. Used by services that send email and by the operators' mail page.

An email is queued in the same transaction as its cause. A worker sends it after the commit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, MailState, OutgoingMail, User, move
from portal.services import events
from portal.services.errors import ConflictError, NotFoundError
from portal.services.paging import Page, load_page

KEPT_TEMPLATES = ("updated", "update_failed")
"""Templates of the emails about a release. Retention keeps their rows: a release may return at any time, and each of
these emails is sent at most once."""

MAILS_PER_PAGE = 50

_QUEUED = "queued emails"


def queue_mail(session: Session, *, to: str, template: str, dedupe_key: str, context: dict[str, Any]) -> OutgoingMail:
    """Queue an email; a worker sends it after the commit.

    Args:
        session: the transaction that causes the email.
        to: the recipient's address as its owner writes it.
        template: the template's name, which must have a composer in `daemon.mail.composers`.
        dedupe_key: identifies what the email is about, for example `invite:<token id>`.
        context: ids of the rows from which the email is composed; never a link, a token or a name.

    Returns:
        The new outbox row, or the existing one with the same `dedupe_key`.
    """
    existing = session.scalars(_by_dedupe_key(dedupe_key)).one_or_none()
    if existing is not None:
        return existing
    mail = OutgoingMail(dedupe_key=dedupe_key, to=to, template=template, context=context)
    try:
        with session.begin_nested():
            session.add(mail)
    except IntegrityError:  # a concurrent transaction queued the same email
        return session.scalars(_by_dedupe_key(dedupe_key)).one()
    session.info.setdefault(_QUEUED, []).append(mail.id)
    return mail


def queue_newest(
    session: Session,
    *,
    to: str,
    template: str,
    dedupe_key: str,
    context: dict[str, Any],
    collect: timedelta,
    spacing: timedelta,
    now: datetime,
) -> None:
    """Queue an email that tells only the newest of several news. A later call with other news replaces its context.

    The email waits for further news before it is sent, and again after it was sent. So several news in a row make one
    email, and frequent ones make one email per `spacing`. The same news twice change nothing.

    Args:
        session: the transaction that causes the email.
        to: the recipient's address as its owner writes it.
        template: the template's name.
        dedupe_key: identifies what the news are about. One row of the outbox serves all emails with this key.
        context: ids of the rows from which the email is composed; they identify the news.
        collect: how long the email waits for further news.
        spacing: the time between two emails.
        now: the current moment.
    """
    mail = session.scalars(_by_dedupe_key(dedupe_key).with_for_update()).one_or_none()
    if mail is None:
        mail = OutgoingMail(
            dedupe_key=dedupe_key, to=to, template=template, context=context, next_attempt_at=now + collect
        )
        try:
            with session.begin_nested():
                session.add(mail)
        except IntegrityError:  # a concurrent transaction queued other news
            mail = session.scalars(_by_dedupe_key(dedupe_key).with_for_update()).one()
    if mail.context == context:
        return
    mail.to, mail.context = to, context
    if mail.state is MailState.PENDING:
        return
    due = now + collect
    if mail.state in {MailState.SENDING, MailState.SENT}:
        # In these states, the moment at which the claim of the last attempt expires. An email that is being sent now
        # still tells the previous news.
        due = max(due, mail.next_attempt_at + spacing)
    move(session, mail, mail.state, MailState.PENDING, attempts=0, next_attempt_at=due, message_id=None)


def queue_for_operators(session: Session, template: str, occasion: str, context: dict[str, Any]) -> None:
    """Queue an email to every operator.

    Args:
        session: the transaction that causes the email.
        template: the template's name.
        occasion: identifies what the email is about; each operator gets one email per template and occasion.
        context: ids of the rows from which the email is composed.
    """
    operators = sa.select(User).where(User.is_platform_admin, User.disabled_at.is_(None))
    for user in session.scalars(operators):
        dedupe_key = f"{template}:{occasion}:{user.id}"
        queue_mail(session, to=user.email, template=template, dedupe_key=dedupe_key, context=context)


def take_queued(session: Session) -> list[str]:
    """Return and forget the ids of the emails queued through `session`. Call it after the commit, to enqueue jobs."""
    queued: list[str] = session.info.pop(_QUEUED, [])
    return queued


def find_by_dedupe_key(session: Session, dedupe_keys: Collection[str]) -> dict[str, OutgoingMail]:
    """Return the emails with these keys, by key. Used by pages that show whether an email was sent."""
    found = session.scalars(sa.select(OutgoingMail).where(OutgoingMail.dedupe_key.in_(dedupe_keys)))
    return {mail.dedupe_key: mail for mail in found}


@dataclass(frozen=True)
class OutboxPage:
    """One page of the outbox.

    Attributes:
        mails: the emails, newest first.
        counts: number of emails in each state, over all pages.
    """

    mails: Page[OutgoingMail]
    counts: dict[MailState, int]


def list_mails(session: Session, state: MailState | None, page: int) -> OutboxPage:
    """List emails in one state, or all emails if `state` is None."""
    counted = session.execute(sa.select(OutgoingMail.state, sa.func.count()).group_by(OutgoingMail.state))
    counts = dict.fromkeys(MailState, 0) | dict(counted.all())
    mails = sa.select(OutgoingMail).order_by(OutgoingMail.created_at.desc(), OutgoingMail.id)
    if state:
        mails = mails.where(OutgoingMail.state == state)
    return OutboxPage(load_page(session, mails, page, MAILS_PER_PAGE, list), counts)


def resend(session: Session, mail_id: str, now: datetime, *, actor: User) -> OutgoingMail:
    """Send an email again, or immediately if it waits for its next attempt. Its attempts restart at zero.

    An email that was already sent gets a new Message-ID, because mail programs hide a second copy with the same one.

    Raises:
        NotFoundError: the email does not exist.
        ConflictError: a worker is sending the email now, or the account of the recipient was deleted.
    """
    # The row lock keeps workers from claiming the email between this read and the change.
    mail = session.get(OutgoingMail, mail_id, with_for_update=True, populate_existing=True)
    if mail is None:
        raise NotFoundError("This email does not exist.")
    if not mail.to:
        raise ConflictError("This email cannot be sent again, because its recipient's account was deleted.")
    if not _reset_to_pending(session, mail, now):
        raise ConflictError("This email is being sent now. Check again in a minute.")
    _record(session, EventTag.MAIL_RESENT, mail, actor=actor)
    session.info.setdefault(_QUEUED, []).append(mail.id)
    return mail


def dismiss(session: Session, mail_ids: Collection[str], *, actor: User) -> int:
    """Dismiss failed emails, which then no longer need attention. Emails in other states stay as they are.

    Args:
        session: the transaction.
        mail_ids: the emails that the operator has seen.
        actor: the operator.

    Returns:
        How many emails were dismissed.

    Raises:
        ConflictError: none of the emails waits for an operator.
    """
    failed = sa.select(OutgoingMail).where(OutgoingMail.id.in_(mail_ids), OutgoingMail.state == MailState.FAILED)
    dismissed = 0
    for mail in session.scalars(failed.order_by(OutgoingMail.id)).all():
        if move(session, mail, MailState.FAILED, MailState.CANCELLED):
            _record(session, EventTag.MAIL_DISMISSED, mail, actor=actor)
            dismissed += 1
    if not dismissed:
        raise ConflictError("Nothing was dismissed: these emails no longer need attention.")
    return dismissed


def _reset_to_pending(session: Session, mail: OutgoingMail, now: datetime) -> bool:
    match mail.state:
        case MailState.SENDING:
            return False
        case MailState.PENDING:
            mail.attempts, mail.next_attempt_at = 0, now
            return True
        case MailState.SENT:
            renewed = {"message_id": None, "sent_at": None}
        case MailState.FAILED | MailState.CANCELLED:
            renewed = {}
    return move(session, mail, mail.state, MailState.PENDING, attempts=0, next_attempt_at=now, **renewed)


def _record(session: Session, tag: EventTag, mail: OutgoingMail, *, actor: User) -> None:
    events.record(session, tag, actor=actor, data={"mail": mail.id, "email": mail.to, "template": mail.template})


def _by_dedupe_key(dedupe_key: str) -> sa.Select[OutgoingMail]:
    return sa.select(OutgoingMail).where(OutgoingMail.dedupe_key == dedupe_key)

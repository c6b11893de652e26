"""The outbox: mail is written down in the transaction that is its reason, and a worker sends it afterwards."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, MailState, OutgoingMail, User, move
from portal.services import events
from portal.services.errors import ConflictError, NotFoundError
from portal.services.paging import Page, load_page

KEPT_TEMPLATES = ("update_available", "updated", "update_failed")
"""Templates of the mails about a release. Their rows stay, because a release may come back at any time and each of
these mails is sent at most once."""

MAILS_PER_PAGE = 50

_POSTED = "posted mails"


def queue_mail(session: Session, *, to: str, template: str, dedupe_key: str, context: dict[str, Any]) -> OutgoingMail:
    """Have a mail sent once the transaction is committed.

    Args:
        session: the transaction of whatever the mail tells of.
        to: the address as its owner writes it.
        template: name of the mail, one of those the sender knows how to compose.
        dedupe_key: what the mail is about, such as `invite:<token id>`. A second mail with the same key is not
            written; the first one is returned.
        context: ids of the rows the text is made of when it is sent; never a link, a token or a name.
    """
    existing = session.scalars(_about(dedupe_key)).one_or_none()
    if existing is not None:
        return existing
    mail = OutgoingMail(dedupe_key=dedupe_key, to=to, template=template, context=context)
    try:
        with session.begin_nested():
            session.add(mail)
    except IntegrityError:  # another transaction wrote the same one at the same moment
        return session.scalars(_about(dedupe_key)).one()
    session.info.setdefault(_POSTED, []).append(mail.id)
    return mail


def take_queued(session: Session) -> list[str]:
    """The ids of the mails posted through `session` since this was last asked; ask after the commit, and enqueue."""
    posted: list[str] = session.info.pop(_POSTED, [])
    return posted


def find_by_dedupe_key(session: Session, dedupe_keys: Collection[str]) -> dict[str, OutgoingMail]:
    """The mails written under these keys, for pages that tell whether a mail went out."""
    found = session.scalars(sa.select(OutgoingMail).where(OutgoingMail.dedupe_key.in_(dedupe_keys)))
    return {mail.dedupe_key: mail for mail in found}


@dataclass(frozen=True)
class OutboxPage:
    """A page of the outbox.

    Attributes:
        mails: the newest first.
        counts: how many mails there are of each state.
    """

    mails: Page[OutgoingMail]
    counts: dict[MailState, int]


def list_mails(session: Session, state: MailState | None, page: int) -> OutboxPage:
    """Look at the outbox, at the mails of one state or at all of them."""
    counted = session.execute(sa.select(OutgoingMail.state, sa.func.count()).group_by(OutgoingMail.state))
    counts = dict.fromkeys(MailState, 0) | dict(counted.all())
    mails = sa.select(OutgoingMail).order_by(OutgoingMail.created_at.desc(), OutgoingMail.id)
    if state:
        mails = mails.where(OutgoingMail.state == state)
    return OutboxPage(load_page(session, mails, page, MAILS_PER_PAGE, list), counts)


def resend(session: Session, mail_id: str, operator: User, now: datetime) -> OutgoingMail:
    """Send a mail again, or at once where it waits for its next attempt; its attempts are counted anew.

    A mail that was sent gets a new Message-ID, for mail programs hide a second copy under the same one.

    Raises:
        NotFoundError: there is no such mail.
        ConflictError: a worker is sending it at this moment.
    """
    # Locked, so that no worker begins to send it between our look and our change.
    mail = session.get(OutgoingMail, mail_id, with_for_update=True, populate_existing=True)
    if mail is None:
        raise NotFoundError("There is no such mail.")
    if not _back_to_pending(session, mail, now):
        raise ConflictError("This mail is being sent at this moment. Look again in a minute.")
    events.record(
        session,
        EventTag.MAIL_RESENT,
        actor=operator.id,
        data={"mail": mail.id, "to": mail.to, "template": mail.template},
    )
    session.info.setdefault(_POSTED, []).append(mail.id)
    return mail


def _back_to_pending(session: Session, mail: OutgoingMail, now: datetime) -> bool:
    match mail.state:
        case MailState.SENDING:
            return False
        case MailState.PENDING:
            mail.attempts, mail.next_attempt_at = 0, now
            return True
        case MailState.SENT:
            renewed = {"message_id": None, "sent_at": None}
        case MailState.FAILED:
            renewed = {}
    return move(session, mail, mail.state, MailState.PENDING, attempts=0, next_attempt_at=now, **renewed)


def _about(dedupe_key: str) -> sa.Select[OutgoingMail]:
    return sa.select(OutgoingMail).where(OutgoingMail.dedupe_key == dedupe_key)

"""The outbox: mail is written down in the transaction that is its reason, and a worker sends it afterwards."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import OutgoingMail

SEND_JOB = "daemon.jobs.send_mail"
"""The job that sends one mail, by its id."""

_POSTED = "posted mails"


def post(session: Session, *, to: str, template: str, dedupe_key: str, context: dict[str, Any]) -> OutgoingMail:
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


def take_posted(session: Session) -> list[str]:
    """The ids of the mails posted through `session` since this was last asked; ask after the commit, and enqueue."""
    posted: list[str] = session.info.pop(_POSTED, [])
    return posted


def _about(dedupe_key: str) -> sa.Select[OutgoingMail]:
    return sa.select(OutgoingMail).where(OutgoingMail.dedupe_key == dedupe_key)

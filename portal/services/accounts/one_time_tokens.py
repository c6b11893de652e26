"""Requests for mailed links that act once: sign-up, forgotten password, change of address.

Anybody may ask with any address, so asking always writes the same rows and never looks at accounts: whether there is
one is found out by the worker that writes the mail.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import OneTimeToken, TokenPurpose, update_where
from portal.rules import email_addresses
from portal.services.mail import outbox
from portal.tokens import fingerprint

LIFETIME = timedelta(minutes=60)
"""So long after it was asked for a link works."""


def request_link(
    session: Session, purpose: TokenPurpose, email: str, now: datetime, user_id: str | None = None
) -> OneTimeToken:
    """Have a link mailed.

    Args:
        session: the transaction.
        purpose: what the link is for.
        email: where the mail goes, checked by `addresses.problem_of`.
        now: the present.
        user_id: whose link it is, where somebody signed in asks for one; else nobody's until the mail is written.
    """
    row = OneTimeToken(
        purpose=purpose,
        email=email,
        email_normalized=email_addresses.normalize(email),
        user_id=user_id,
        expires_at=now + LIFETIME,
    )
    session.add(row)
    session.flush()
    outbox.queue_mail(
        session, to=email, template=purpose, dedupe_key=f"{purpose}:{row.id}", context={"token_id": row.id}
    )
    return row


def find(session: Session, purpose: TokenPurpose, token: str | None, now: datetime) -> OneTimeToken | None:
    """The request behind a link that works; None for one that is unknown, used, too old, or for something else."""
    if token is None:
        return None
    return session.scalar(sa.select(OneTimeToken).where(*_works(purpose, now), _has(token)))


def claim(session: Session, purpose: TokenPurpose, token: str | None, now: datetime) -> OneTimeToken | None:
    """Use a link up.

    Returns:
        The request behind it; None when it does not work (any more): of two who claim a link one wins.
    """
    if token is None:
        return None
    claimed = update_where(session, OneTimeToken, *_works(purpose, now), _has(token), used_at=now)
    return session.scalar(sa.select(OneTimeToken).where(_has(token))) if claimed else None


def invalidate(session: Session, purpose: TokenPurpose, email: str, now: datetime) -> None:
    """Make every link of this purpose and address useless."""
    statement = sa.update(OneTimeToken).where(
        *_works(purpose, now), OneTimeToken.email_normalized == email_addresses.normalize(email)
    )
    session.execute(statement.values(used_at=now))


def invalidate_all_of_user(session: Session, user_id: str, now: datetime) -> None:
    """Make every link useless that the user asked for while signed in."""
    statement = sa.update(OneTimeToken).where(OneTimeToken.user_id == user_id, OneTimeToken.used_at.is_(None))
    session.execute(statement.values(used_at=now))


def _works(purpose: TokenPurpose, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return OneTimeToken.purpose == purpose, OneTimeToken.used_at.is_(None), OneTimeToken.expires_at > now


def _has(token: str) -> sa.ColumnElement[bool]:
    return OneTimeToken.token_hash == fingerprint(token)

"""Mailed one-time links for sign-up, password reset and email change: request, find, claim, invalidate.

Any visitor may request a link for any email. A request therefore always writes the same rows and never reads
accounts. The worker that composes the mail looks up the account, so an answer does not show whether one exists.
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
"""How long a link is valid after it was requested."""


def request_link(
    session: Session, purpose: TokenPurpose, email: str, now: datetime, user_id: str | None = None
) -> OneTimeToken:
    """Queue a mail with a link.

    Args:
        session: the transaction.
        purpose: the purpose of the link.
        email: the recipient, a valid email.
        now: the current time.
        user_id: the signed-in user who requests the link; None for a visitor.
    """
    token = OneTimeToken(
        purpose=purpose,
        email=email,
        email_normalized=email_addresses.normalize(email),
        user_id=user_id,
        expires_at=now + LIFETIME,
    )
    session.add(token)
    session.flush()
    outbox.queue_mail(
        session, to=email, template=purpose, dedupe_key=f"{purpose}:{token.id}", context={"token_id": token.id}
    )
    return token


def find(session: Session, purpose: TokenPurpose, token: str | None, now: datetime) -> OneTimeToken | None:
    """Return the row of a valid link; None when the link is unknown, used, expired or has another purpose."""
    if token is None:
        return None
    return session.scalar(sa.select(OneTimeToken).where(*_is_valid(purpose, now), _has_token(token)))


def claim(session: Session, purpose: TokenPurpose, token: str | None, now: datetime) -> OneTimeToken | None:
    """Mark a link as used. When two transactions claim a link at the same time, one of them succeeds.

    Returns:
        The row of the link; None when the link is not valid.
    """
    if token is None:
        return None
    claimed = update_where(session, OneTimeToken, *_is_valid(purpose, now), _has_token(token), used_at=now)
    return session.scalar(sa.select(OneTimeToken).where(_has_token(token))) if claimed else None


def invalidate(session: Session, purpose: TokenPurpose, email: str, now: datetime) -> None:
    """Invalidate all links with this purpose and email."""
    is_for_email = OneTimeToken.email_normalized == email_addresses.normalize(email)
    session.execute(sa.update(OneTimeToken).where(*_is_valid(purpose, now), is_for_email).values(used_at=now))


def invalidate_all_of_user(session: Session, user_id: str, now: datetime) -> None:
    """Invalidate all links of a user."""
    statement = sa.update(OneTimeToken).where(OneTimeToken.user_id == user_id, OneTimeToken.used_at.is_(None))
    session.execute(statement.values(used_at=now))


def invalidate_all(session: Session, now: datetime) -> int:
    """Invalidate all links of all purposes and return their number."""
    return update_where(session, OneTimeToken, OneTimeToken.used_at.is_(None), used_at=now)


def _is_valid(purpose: TokenPurpose, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return OneTimeToken.purpose == purpose, OneTimeToken.used_at.is_(None), OneTimeToken.expires_at > now


def _has_token(token: str) -> sa.ColumnElement[bool]:
    return OneTimeToken.token_hash == fingerprint(token)

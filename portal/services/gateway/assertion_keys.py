"""Keys that sign assertions of identity: create, rotate, publish. Used by the gateway, and by the portal's key set.

A new key is published for a while before it signs, because bots keep a copy of the published keys. A former key stays
published until all assertions that it signed have expired.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from portal.models import AssertionKey

SIGNS_FOR = timedelta(days=30)
PUBLISHED_BEFORE = timedelta(days=1)
"""How long a new key is published before it signs. The first key signs at once."""
PUBLISHED_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class PublicKey:
    """A published key: its id and the raw key, base64url."""

    id: str
    value: str


def rotate(session: Session, now: datetime) -> None:
    """Create the next key when it is due, and delete keys that no longer sign.

    Two processes that do this at once create two keys, which is harmless.
    """
    newest = session.scalar(sa.select(sa.func.max(AssertionKey.created_at)))
    if newest is None or newest <= now - SIGNS_FOR:
        session.add(_generate(now))
    expired = now - SIGNS_FOR - PUBLISHED_BEFORE - PUBLISHED_AFTER
    session.execute(sa.delete(AssertionKey).where(AssertionKey.created_at < expired))
    session.flush()


def list_public(session: Session) -> list[PublicKey]:
    """Return all published keys, the oldest first."""
    rows = session.execute(sa.select(AssertionKey.id, AssertionKey.public_key).order_by(AssertionKey.created_at))
    return [PublicKey(key_id, value) for key_id, value in rows]


def find_signing_key(session: Session, now: datetime) -> AssertionKey | None:
    """Return the newest key that was published long enough, or else the oldest. None: there is no key yet."""
    newest_first = sa.select(AssertionKey).order_by(AssertionKey.created_at.desc(), AssertionKey.id)
    keys = list(session.scalars(newest_first))
    return next((key for key in keys if key.created_at <= now - PUBLISHED_BEFORE), keys[-1] if keys else None)


def _generate(now: datetime) -> AssertionKey:
    private = Ed25519PrivateKey.generate()
    public = base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return AssertionKey(public_key=public, private_key=private.private_bytes_raw().hex(), created_at=now)

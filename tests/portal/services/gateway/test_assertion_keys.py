"""Keys of assertions: a new key is published before it signs, an old one after it signed."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from portal.database import Database
from portal.models import AssertionKey, utcnow
from portal.services.gateway import assertion_keys


def test_keys_rotate(database: Database) -> None:
    start = utcnow()
    signing, published = [], []
    for day in range(100):
        now = start + timedelta(days=day)
        with database.transaction() as session:
            assertion_keys.rotate(session, now)
            key = assertion_keys.find_signing_key(session, now)
            assert key is not None
            signing.append(key.id)
            published.append([found.id for found in assertion_keys.list_public(session)])
    assert len(set(signing)) == 4
    assert max(map(len, published)) == 2
    for day in range(1, 100):
        assert signing[day] in published[day - 1], "it was published the day before it signs"
        assert signing[day - 1] in published[day], "it is published the day after it signed"


def test_there_is_no_key_before_the_first_rotation(database: Database) -> None:
    with database.reading() as session:
        assert assertion_keys.find_signing_key(session, utcnow()) is None
        assert assertion_keys.list_public(session) == []


def test_private_keys_are_encrypted_at_rest(database: Database) -> None:
    with database.transaction() as session:
        assertion_keys.rotate(session, utcnow())
        (private,) = session.scalars(sa.select(AssertionKey.private_key))
        stored = session.scalar(sa.text("SELECT private_key FROM assertion_keys"))
        assert private not in str(stored)
        assert len(bytes.fromhex(private)) == 32

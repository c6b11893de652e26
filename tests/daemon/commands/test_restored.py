"""`flotilla restored`: what ends after a backup of the database was restored."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Event,
    Invite,
    InviteState,
    InviteToken,
    OneTimeToken,
    Org,
    TokenDelivery,
    TokenPurpose,
    User,
    utcnow,
)
from portal.services.accounts import administration, one_time_tokens, sessions
from portal.services.orgs import invite_acceptance, invites
from portal.tokens import fingerprint
from tests import factories
from tests.daemon.conftest import Flotilla

TOKEN = "x" * 43


@pytest.fixture
def session_token(database: Database) -> str:
    """Add an operator with a session, a reset link, an invite with a link, and an offer of ownership."""
    with database.transaction() as session:
        olga = factories.user(session, "olga", is_platform_admin=True)
        bert = factories.user(session, "bert")
        org = factories.org(session, olga)
        org.transfer_to, org.transfer_expires_at = bert.id, utcnow() + timedelta(days=1)
        invite = factories.invite(session, org, olga)
        token = InviteToken(invite_id=invite.id, delivery=TokenDelivery.MAILED, token_hash=fingerprint(TOKEN))
        session.add(token)
        link = one_time_tokens.request_link(session, TokenPurpose.RESET, olga.email, utcnow())
        link.token_hash = fingerprint(TOKEN)
        return sessions.start(session, olga.id, now=utcnow(), user_agent="phone", ip="10.0.0.1")


def is_any_access_valid(database: Database, session_token: str) -> list[bool]:
    """Return whether the session, the link, the invite and the offer are valid."""
    with database.reading() as session:
        opened = invite_acceptance.find_by_token(session, TOKEN, utcnow())
        return [
            sessions.find(session, session_token, utcnow()) is not None,
            one_time_tokens.find(session, TokenPurpose.RESET, TOKEN, utcnow()) is not None,
            opened is not None and opened.closed is None,
            session.scalars(sa.select(Org)).one().transfer_to is not None,
        ]


def test_all_access_of_a_restored_backup_ends(flotilla: Flotilla, database: Database, session_token: str) -> None:
    assert is_any_access_valid(database, session_token) == [True] * 4
    result = flotilla("restored", "--yes")
    assert result.exit_code == 0, result.output
    assert "Ended 1 session, 1 mailed link, 1 invite and 1 offer of ownership." in result.output
    assert "operators: olga@example.com" in result.output
    assert is_any_access_valid(database, session_token) == [False] * 4
    with database.reading() as session:
        event = session.scalars(sa.select(Event).order_by(Event.id.desc()).limit(1)).one()
        assert (event.tag, event.data["sessions"], event.data["via"]) == ("backup.restored", 1, "command line")
    # The second run finds nothing left.
    assert "Ended 0 sessions, 0 mailed links, 0 invites and 0 offers" in flotilla("restored", "--yes").output


def test_access_that_was_revoked_after_the_backup_stays_revoked(
    flotilla: Flotilla, database: Database, session_token: str, tmp_path: Path
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("the backup is a copy of the file")
    file = database.engine.url.database
    assert file is not None
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        source.backup(backup)
    with database.transaction() as session:
        olga = session.scalars(sa.select(User).where(User.email == "olga@example.com")).one()
        administration.end_sessions(session, olga.id, utcnow(), actor=None)
        org = session.scalars(sa.select(Org)).one()
        invites.revoke_invite(session, org, session.scalars(sa.select(Invite)).one().id, actor=olga, now=utcnow())
    database.dispose()
    for suffix in ("-wal", "-shm"):
        Path(file + suffix).unlink(missing_ok=True)
    shutil.copyfile(tmp_path / "backup.db", file)
    assert is_any_access_valid(database, session_token)[0], "the restored backup has revived the session"

    assert flotilla("restored", "--yes").exit_code == 0

    assert is_any_access_valid(database, session_token) == [False] * 4
    with database.reading() as session:
        assert session.scalars(sa.select(Invite)).one().state is InviteState.REVOKED
        assert session.scalars(sa.select(OneTimeToken)).one().used_at is not None


def test_without_confirmation_nothing_ends(flotilla: Flotilla, database: Database, session_token: str) -> None:
    assert flotilla("restored").exit_code != 0
    assert is_any_access_valid(database, session_token) == [True] * 4

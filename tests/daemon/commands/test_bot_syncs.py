"""`flotilla bots provision`, `rotate-secret`, `budget` and `sync`, and `flotilla sync status`."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotSync, Event, MemberSync, Provisioning, SyncRole, SyncState, utcnow
from tests import factories
from tests.daemon.conftest import Flotilla
from tests.daemon.provision.toy_bot import SECRET
from tests.daemon.rows import add_bot, add_node
from tests.support import sync_rows

pytestmark = pytest.mark.requests

REFUSED = 1
BAD_INPUT = 2


@pytest.fixture
def desk(database: Database) -> str:
    """The id of the adopted bot desk."""
    return add_bot(database, add_node(database)).id


def load(database: Database, bot_id: str) -> tuple[Bot, BotSync]:
    with database.reading() as session:
        return session.get_one(Bot, bot_id), session.get_one(BotSync, bot_id)


def list_events(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Event.tag).order_by(Event.id)))


@pytest.mark.every_database
def test_a_bot_is_provisioned_with_a_secret_from_a_file(
    flotilla: Flotilla, database: Database, desk: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    result = flotilla("bots", "provision", "desk", "--secret-file", str(file))
    assert (result.exit_code, SECRET in result.output) == (0, False)
    bot, sync = load(database, desk)
    assert bot.provision_secret == {"current": SECRET, "next": None}
    assert (sync.provisioning, bot.company_id, bot.epoch) == (Provisioning.MANAGED, None, 2)
    assert list_events(database) == ["bot.connected"]


class SlowInput(BytesIO):
    """Standard input that ends only after another process has changed the database."""

    def __init__(self, database: Database) -> None:
        super().__init__(SECRET.encode())
        self.database = database

    def read(self, size: int | None = -1, /) -> bytes:
        """Let the other process write, then return the secret."""
        with self.database.transaction() as session:
            session.execute(sa.update(Bot).values(checked_at=utcnow()))
        return super().read(size)


@pytest.mark.parametrize("arguments", [["provision"], ["rotate-secret"]])
def test_nothing_waits_for_standard_input(
    flotilla: Flotilla, database: Database, desk: str, arguments: list[str]
) -> None:
    flotilla("bots", "provision", "desk", "--secret-file", "-", stdin=f"former-{SECRET}")
    result = flotilla("bots", *arguments, "desk", "--secret-file", "-", stdin=SlowInput(database))
    assert result.exit_code == 0, result.output


def test_roles_wait_since_the_bot_was_connected(flotilla: Flotilla, database: Database, desk: str) -> None:
    joined = utcnow() - timedelta(days=30)
    with database.transaction() as session:
        bot = session.get_one(Bot, desk)
        sync_rows.pending(session, bot, factories.user(session, "Mia").id, changed_at=joined)
        removed = factories.user(session, "Rex").id
        sync_rows.pending(session, bot, removed, SyncRole.NONE, changed_at=joined)
    columns = flotilla("sync", "status").output.splitlines()[1].split()
    assert columns[2:] == ["not_connected", "-", "-", "-", "-", "-", "-", "-", "-"]
    flotilla("bots", "provision", "desk", "--secret-file", "-", stdin=SECRET)
    with database.reading() as session:
        for row in session.scalars(sa.select(MemberSync)):
            assert (row.changed_at == joined) == (row.user_id == removed)


@pytest.mark.every_database
def test_a_bot_is_linked_and_returns_to_provisioning_with_its_stored_secret(
    flotilla: Flotilla, database: Database, desk: str
) -> None:
    assert (
        flotilla("bots", "provision", "desk", "--company", "c-1", "--secret-file", "-", stdin=SECRET).exit_code == 0
    )
    bot, sync = load(database, desk)
    assert (sync.provisioning, bot.company_id) == (Provisioning.LINKED, "c-1")
    assert flotilla("bots", "provision", "desk").exit_code == 0
    bot, sync = load(database, desk)
    assert (sync.provisioning, bot.company_id) == (Provisioning.MANAGED, None)
    assert bot.provision_secret["current"] == SECRET


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["provision", "desk"], "", "has no secret yet"),
        (["provision", "desk", "--secret-file", "-"], "short", "16 to 500 ASCII characters"),
        (["provision", "desk", "--secret-file", "-"], "a secret with spaces in it", "no spaces"),
        (["provision", "desk", "--company", "a b", "--secret-file", "-"], SECRET, "company id"),
        (["budget", "desk", "--cents", "-1"], "", "--cents"),
    ],
)
def test_invalid_input_changes_nothing(  # noqa: PLR0917 - fixtures come by name
    flotilla: Flotilla, database: Database, desk: str, arguments: list[str], stdin: str, message: str
) -> None:
    result = flotilla("bots", *arguments, stdin=stdin)
    assert result.exit_code == BAD_INPUT
    assert message in result.output
    assert not stdin or stdin not in result.output
    assert load(database, desk)[1].provisioning is Provisioning.OFF
    assert list_events(database) == []


@pytest.mark.parametrize(
    "arguments", [["rotate-secret"], ["budget", "--cents", "5"], ["sync"], ["sync", "--allow-removals"]]
)
def test_an_unconnected_bot_is_refused(
    flotilla: Flotilla, database: Database, desk: str, arguments: list[str]
) -> None:
    result = flotilla("bots", *arguments, "desk")
    assert result.exit_code == REFUSED
    assert "flotilla bots provision" in result.output
    assert list_events(database) == []


@pytest.mark.every_database
def test_a_secret_is_rotated_once_at_a_time(flotilla: Flotilla, database: Database, desk: str) -> None:
    flotilla("bots", "provision", "desk", "--secret-file", "-", stdin=SECRET)
    refused = flotilla("bots", "rotate-secret", "desk")
    assert (refused.exit_code, "was adopted" in refused.output) == (REFUSED, True)
    with database.transaction() as session:
        session.get_one(Bot, desk).secret_variable = "PROVISION_SECRET"
    result = flotilla("bots", "rotate-secret", "desk")
    assert (result.exit_code, "next update" in result.output) == (0, True)
    stored = load(database, desk)[0].provision_secret
    assert stored["current"] == SECRET
    assert len(stored["next"]) >= 43  # 256 bits
    assert stored["next"] not in result.output
    again = flotilla("bots", "rotate-secret", "desk")
    assert (again.exit_code, "has begun already" in again.output) == (REFUSED, True)
    assert list_events(database) == ["bot.connected", "bot.secret_rotation_begun"]


@pytest.mark.every_database
def test_a_budget_is_set_once(flotilla: Flotilla, database: Database, desk: str) -> None:
    flotilla("bots", "provision", "desk", "--secret-file", "-", stdin=SECRET)
    for _ in range(2):
        assert flotilla("bots", "budget", "desk", "--cents", "500", "--per-agent", "20").exit_code == 0
    sync = load(database, desk)[1]
    assert (sync.budget_cents, sync.per_agent_budget_cents) == (500, 20)
    assert list_events(database) == ["bot.connected", "bot.budget_changed"]


@pytest.mark.every_database
def test_a_bot_is_synced_again_and_removals_are_allowed(flotilla: Flotilla, database: Database, desk: str) -> None:
    flotilla("bots", "provision", "desk", "--secret-file", "-", stdin=SECRET)
    with database.transaction() as session:
        sync = session.get_one(BotSync, desk)
        sync.refused_removals, sync.state, sync.last_error = 5, SyncState.BLOCKED, "the bot refused"
    status = flotilla("sync", "status")
    assert "5 unknown members were not removed" in status.output
    assert "blocked" in status.output
    assert flotilla("bots", "sync", "desk").exit_code == 0
    assert load(database, desk)[0].epoch == 3
    assert "Up to 5 unknown members" in flotilla("bots", "sync", "desk", "--allow-removals").output
    assert load(database, desk)[1].allowed_removals == 5
    assert list_events(database) == ["bot.connected", "sync.requested", "sync.removals_allowed"]

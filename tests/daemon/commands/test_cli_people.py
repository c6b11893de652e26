"""`flotilla users` and `flotilla orgs`, and the audit log of commands."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    DesiredState,
    Event,
    EventTag,
    Org,
    OrgState,
    TenantMode,
    TenantUpdateConfig,
    User,
    UserSession,
    utcnow,
)
from portal.queue import connect, open_queue, updates_queue_name
from portal.services import events
from portal.services.accounts import sessions
from portal.services.orgs import org_deletion
from tests import factories
from tests.daemon.conftest import Flotilla
from tests.daemon.rows import add_bot, add_node

REFUSED = 1
BAD_INPUT = 2


@pytest.fixture
def olga(database: Database) -> str:
    """Add the only operator and return her id."""
    with database.transaction() as session:
        return factories.user(session, "olga", email="Olga@acme.test", is_platform_admin=True).id


@pytest.fixture
def bert(database: Database) -> str:
    """Add a user who is signed in with two browsers and return his id."""
    with database.transaction() as session:
        user = factories.user(session, "bert", email="bert@acme.test")
        for browser in ("phone", "laptop"):
            sessions.start(session, user.id, now=utcnow(), user_agent=browser, ip="10.0.0.1")
        return user.id


def load_user(database: Database, user_id: str) -> User:
    with database.reading() as session:
        return session.get_one(User, user_id)


def load_last_event(database: Database) -> Event:
    with database.reading() as session:
        return session.scalars(sa.select(Event).order_by(Event.id.desc()).limit(1)).one()


def list_sessions(database: Database, user_id: str) -> list[UserSession]:
    with database.reading() as session:
        return sessions.list_active(session, user_id, utcnow())


def test_accounts_are_listed_and_searched(flotilla: Flotilla, olga: str, bert: str) -> None:
    assert "Olga@acme.test" in flotilla("users", "list").output
    listing = flotilla("users", "list", "--search", "BERT").output
    assert "bert@acme.test" in listing
    assert "Olga" not in listing


def test_account_is_disabled_and_enabled_by_email(
    flotilla: Flotilla, database: Database, olga: str, bert: str
) -> None:
    assert flotilla("users", "disable", "Bert@ACME.test").exit_code == 0
    assert load_user(database, bert).disabled_at is not None
    assert list_sessions(database, bert) == []
    assert "disabled" in flotilla("users", "list", "--search", "bert").output
    assert flotilla("users", "enable", "bert@acme.test").exit_code == 0
    assert load_user(database, bert).disabled_at is None


def test_sessions_are_ended(flotilla: Flotilla, database: Database, bert: str) -> None:
    assert "Ended 2 sessions" in flotilla("users", "end-sessions", "bert@acme.test").output
    assert list_sessions(database, bert) == []
    assert "Ended 0 sessions" in flotilla("users", "end-sessions", "bert@acme.test").output


def test_last_operator_cannot_be_removed(flotilla: Flotilla, database: Database, olga: str, bert: str) -> None:
    for command in (("operator", "--revoke"), ("disable",)):
        refused = flotilla("users", *command, "olga@acme.test")
        assert refused.exit_code == REFUSED
        assert "last operator" in refused.output
    assert flotilla("users", "operator", "bert@acme.test").exit_code == 0
    assert load_user(database, bert).is_platform_admin
    assert flotilla("users", "operator", "--revoke", "olga@acme.test").exit_code == 0
    assert not load_user(database, olga).is_platform_admin
    assert flotilla("users", "disable", "bert@acme.test").exit_code == REFUSED


def test_error_for_a_missing_account_names_the_list_command(flotilla: Flotilla) -> None:
    result = flotilla("users", "disable", "missing@acme.test")
    assert result.exit_code == REFUSED
    assert "flotilla users list" in result.output


def test_events_of_commands_carry_command_line(flotilla: Flotilla, database: Database, olga: str, bert: str) -> None:
    flotilla("users", "disable", "bert@acme.test")
    event = load_last_event(database)
    assert event.actor_id is None
    assert event.data["via"] == "command line"
    with database.transaction() as session:
        events.record(session, EventTag.USER_ENABLED, data={})
    assert "via" not in load_last_event(database).data, "the mark must not leak to later events of the same process"


def test_operators_manage_updates_for_an_organization(flotilla: Flotilla, database: Database) -> None:
    flotilla("orgs", "create", "acme", "--name", "Acme", "--owner", "ada@acme.test")
    assert flotilla("orgs", "override", "acme", "--mode", "auto").exit_code == 0
    with database.reading() as session:
        config = session.scalars(sa.select(TenantUpdateConfig)).one()
    assert (config.mode, config.preferred_hour_utc, config.overridden_by_operator) == (TenantMode.AUTO, 3, True)
    assert config.updated_by is None
    assert "auto at 03:00, managed by operators" in flotilla("orgs", "list").output
    assert flotilla("orgs", "override", "acme", "--mode", "auto", "--hour", "22").exit_code == 0
    assert "auto at 22:00, managed by operators" in flotilla("orgs", "list").output
    assert flotilla("orgs", "override", "acme", "--lift").exit_code == 0
    assert "managed by operators" not in flotilla("orgs", "list").output


@pytest.mark.parametrize(
    "arguments", [(), ("--hour", "4"), ("--lift", "--mode", "auto"), ("--lift", "--hour", "4"), ("--hour", "24")]
)
def test_contradicting_override_options_exit_with_2(flotilla: Flotilla, arguments: tuple[str, ...]) -> None:
    flotilla("orgs", "create", "acme", "--name", "Acme", "--owner", "ada@acme.test")
    assert flotilla("orgs", "override", "acme", *arguments).exit_code == BAD_INPUT


def test_organization_is_restored(
    flotilla: Flotilla, database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    node = add_node(database)
    bot = add_bot(database, node)
    with database.transaction() as session:
        org = session.get_one(Org, bot.org_id)
        org_deletion.request_deletion(session, org, typed_name=org.name, actor=org.owner, now=utcnow())

    result = flotilla("orgs", "restore", "desk")

    assert result.exit_code == 0, result.output
    with database.reading() as session:
        assert session.get_one(Org, bot.org_id).state is OrgState.ACTIVE
        assert session.get_one(Bot, bot.id).desired_state is DesiredState.RUNNING
    (job,) = open_queue(connect(redis_url), updates_queue_name(node.id)).jobs
    assert (job.func_name, job.args) == ("daemon.jobs.apply_desired_state", [bot.id])
    assert flotilla("orgs", "restore", "desk").exit_code == REFUSED
    assert flotilla("orgs", "restore", "nowhere").exit_code == REFUSED

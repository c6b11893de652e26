"""Accounts and organizations at the command line, and that the log tells it was done there."""

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
from tests.daemon.conftest import Flotilla
from tests.daemon.rows import add_bot, add_node

REFUSED = 1
BAD_INPUT = 2


@pytest.fixture
def olga(database: Database) -> str:
    """The only operator; her id."""
    with database.transaction() as session:
        user = User(email="Olga@acme.test", email_normalized="olga@acme.test", name="Olga", is_platform_admin=True)
        session.add(user)
        session.flush()
        return user.id


@pytest.fixture
def bert(database: Database) -> str:
    """Somebody signed in with two browsers; his id."""
    with database.transaction() as session:
        user = User(email="bert@acme.test", email_normalized="bert@acme.test", name="Bert")
        session.add(user)
        session.flush()
        for browser in ("phone", "laptop"):
            sessions.start(session, user.id, now=utcnow(), user_agent=browser, ip="10.0.0.1")
        return user.id


def user(database: Database, user_id: str) -> User:
    with database.reading() as session:
        return session.get_one(User, user_id)


def last_event(database: Database) -> Event:
    with database.reading() as session:
        return session.scalars(sa.select(Event).order_by(Event.id.desc()).limit(1)).one()


def living(database: Database, user_id: str) -> list[UserSession]:
    with database.reading() as session:
        return sessions.list_active(session, user_id, utcnow())


def test_accounts_are_listed_and_searched(flotilla: Flotilla, olga: str, bert: str) -> None:
    assert "Olga@acme.test" in flotilla("users", "list").output
    listing = flotilla("users", "list", "--search", "BERT").output
    assert "bert@acme.test" in listing
    assert "Olga" not in listing


def test_somebody_is_disabled_and_enabled_by_address(
    flotilla: Flotilla, database: Database, olga: str, bert: str
) -> None:
    assert flotilla("users", "disable", "Bert@ACME.test").exit_code == 0
    assert user(database, bert).disabled_at is not None
    assert living(database, bert) == []
    assert "disabled" in flotilla("users", "list", "--search", "bert").output
    assert flotilla("users", "enable", "bert@acme.test").exit_code == 0
    assert user(database, bert).disabled_at is None


def test_sessions_are_ended(flotilla: Flotilla, database: Database, bert: str) -> None:
    assert "2 browsers" in flotilla("users", "end-sessions", "bert@acme.test").output
    assert living(database, bert) == []
    assert "0 browsers" in flotilla("users", "end-sessions", "bert@acme.test").output


def test_operators_are_made_and_unmade_but_the_last(
    flotilla: Flotilla, database: Database, olga: str, bert: str
) -> None:
    for command in (("operator", "--revoke"), ("disable",)):
        refused = flotilla("users", *command, "olga@acme.test")
        assert refused.exit_code == REFUSED
        assert "last operator" in refused.output
    assert flotilla("users", "operator", "bert@acme.test").exit_code == 0
    assert user(database, bert).is_platform_admin
    assert flotilla("users", "operator", "--revoke", "olga@acme.test").exit_code == 0
    assert not user(database, olga).is_platform_admin
    assert flotilla("users", "disable", "bert@acme.test").exit_code == REFUSED


def test_who_is_not_there_is_not_found(flotilla: Flotilla) -> None:
    result = flotilla("users", "disable", "nobody@acme.test")
    assert result.exit_code == REFUSED
    assert "flotilla users list" in result.output


def test_the_log_tells_that_it_was_done_at_the_command_line(
    flotilla: Flotilla, database: Database, olga: str, bert: str
) -> None:
    flotilla("users", "disable", "bert@acme.test")
    event = last_event(database)
    assert event.actor_id is None
    assert event.data["via"] == "command line"
    with database.transaction() as session:
        events.record(session, EventTag.USER_ENABLED, data={})
    assert "via" not in last_event(database).data, "what follows in the same process is nobody's command"


def test_updates_of_an_organization_are_decided_in_its_place(flotilla: Flotilla, database: Database) -> None:
    flotilla("orgs", "create", "acme", "--name", "Acme", "--owner", "ada@acme.test")
    assert flotilla("orgs", "override", "acme", "--mode", "auto").exit_code == 0
    with database.reading() as session:
        config = session.scalars(sa.select(TenantUpdateConfig)).one()
    assert (config.mode, config.preferred_hour_utc, config.overridden_by_operator) == (TenantMode.AUTO, 3, True)
    assert config.updated_by is None
    assert "auto at 03:00, by operators" in flotilla("orgs", "list").output
    assert flotilla("orgs", "override", "acme", "--mode", "auto", "--hour", "22").exit_code == 0
    assert "auto at 22:00, by operators" in flotilla("orgs", "list").output
    assert flotilla("orgs", "override", "acme", "--lift").exit_code == 0
    assert "by operators" not in flotilla("orgs", "list").output


@pytest.mark.parametrize(
    "arguments", [(), ("--hour", "4"), ("--lift", "--mode", "auto"), ("--lift", "--hour", "4"), ("--hour", "24")]
)
def test_an_override_that_says_nothing_clear_is_bad_input(flotilla: Flotilla, arguments: tuple[str, ...]) -> None:
    flotilla("orgs", "create", "acme", "--name", "Acme", "--owner", "ada@acme.test")
    assert flotilla("orgs", "override", "acme", *arguments).exit_code == BAD_INPUT


def test_a_deletion_is_taken_back(
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

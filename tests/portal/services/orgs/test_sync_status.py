"""Progress of the member sync per person and bot, and its words for customers."""

from __future__ import annotations

from typing import Any

import pytest

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
    DesiredState,
    MemberSync,
    Provisioning,
    SyncRole,
    SyncState,
    UpdateState,
)
from portal.services.orgs import sync_sentences, sync_status
from portal.services.orgs.sync_status import MemberSyncStatus, Obstacle, SyncProgress
from tests import factories
from tests.support import sync_rows

KNOWN_AS_ADMIN = {"observed_role": SyncRole.ADMIN, "observed_version": 1, "observed_epoch": 2}


@pytest.fixture
def bot_id(database: Database) -> str:
    """Add a connected bot in its second epoch, and alice, whose role it does not know yet. Return its id."""
    with database.transaction() as session:
        alice = factories.user(session, "alice", id="alice")
        bot = factories.bot(session, factories.org(session, alice), factories.node(session), name="Desk", epoch=2)
        sync_rows.connect(session, bot)
        sync_rows.pending(session, bot, alice.id)
        return bot.id


def change(database: Database, bot_id: str, **values: Any) -> None:
    """Change columns of the row of alice, or, by the prefixes `bot__` and `sync__`, of the bot or its sync."""
    with database.transaction() as session:
        rows = {"bot": session.get_one(Bot, bot_id), "sync": session.get_one(BotSync, bot_id)}
        for name, value in values.items():
            target, _, column = name.partition("__")
            setattr(rows[target] if column else session.query(MemberSync).one(), column or name, value)


def load_status(database: Database, bot_id: str) -> MemberSyncStatus:
    """Load the status of alice in the bot."""
    with database.reading() as session:
        (status,) = sync_status.load_statuses(session, Bot.id == bot_id)["alice"]
        return status


@pytest.mark.parametrize(
    ("values", "progress"),
    [
        ({}, SyncProgress.PROVISIONING),
        ({"observed_role": SyncRole.NONE, "observed_epoch": 2}, SyncProgress.PROVISIONING),
        (KNOWN_AS_ADMIN, SyncProgress.CHANGING),
        (KNOWN_AS_ADMIN | {"desired_role": SyncRole.NONE}, SyncProgress.REMOVING),
        ({"desired_role": SyncRole.NONE}, SyncProgress.REMOVING),
        (KNOWN_AS_ADMIN | {"state": SyncState.SYNCED}, SyncProgress.SYNCED),
        (KNOWN_AS_ADMIN | {"state": SyncState.SYNCED, "observed_epoch": 1}, SyncProgress.CHANGING),
        (KNOWN_AS_ADMIN | {"state": SyncState.SYNCED, "observed_epoch": None}, SyncProgress.CHANGING),
        (
            {"state": SyncState.SYNCED, "desired_role": SyncRole.NONE, "observed_role": SyncRole.NONE}
            | {"observed_epoch": 2},
            SyncProgress.ENDED,
        ),
        ({"state": SyncState.BLOCKED}, SyncProgress.BLOCKED),
        ({"state": SyncState.BLOCKED, "bot__desired_state": DesiredState.STOPPED}, SyncProgress.BLOCKED),
        ({"sync__state": SyncState.BLOCKED}, SyncProgress.BLOCKED),
        ({"bot__desired_state": DesiredState.STOPPED}, SyncProgress.WAITING),
        ({"state": SyncState.BLOCKED, "sync__provisioning": Provisioning.OFF}, SyncProgress.NOT_CONNECTED),
    ],
)
def test_progress(database: Database, bot_id: str, values: dict[str, Any], progress: SyncProgress) -> None:
    change(database, bot_id, **values)
    status = load_status(database, bot_id)
    assert status.progress is progress
    assert status.is_settled == (progress in sync_status.SETTLED)
    with database.reading() as session:
        settled = session.query(MemberSync.id).join(Bot, Bot.id == MemberSync.bot_id).filter(sync_status.is_settled())
        # The condition does not know whether the bot is connected.
        assert (settled.count() == 1) == (progress in {SyncProgress.SYNCED, SyncProgress.ENDED})
        unsettled = session.query(MemberSync.id).join(Bot, Bot.id == MemberSync.bot_id)
        assert unsettled.filter(~sync_status.is_settled()).count() == 1 - settled.count()


@pytest.mark.parametrize(
    ("values", "obstacle"),
    [
        ({}, None),
        ({"bot__phase": BotPhase.CREATING, "bot__state": BotState.UNKNOWN}, Obstacle.CREATING),
        ({"bot__phase": BotPhase.REMOVING, "bot__state": BotState.STOPPED}, Obstacle.REMOVING),
        ({"bot__needs_attention": "docker start 1"}, Obstacle.REPAIR),
        ({"bot__desired_state": DesiredState.STOPPED}, Obstacle.STOPPED),
        ({"bot__state": BotState.STOPPED}, Obstacle.STOPPED),
        ({"bot__state": BotState.UNKNOWN}, Obstacle.UNKNOWN),
        ({"bot__state": BotState.UNHEALTHY}, Obstacle.UNREACHABLE),
        ({"bot__state": BotState.MISSING}, Obstacle.UNREACHABLE),
        ({"bot__address": None}, Obstacle.UNREACHABLE),
    ],
)
def test_obstacle(database: Database, bot_id: str, values: dict[str, Any], obstacle: Obstacle | None) -> None:
    change(database, bot_id, attempts=1, **values)
    status = load_status(database, bot_id)
    assert status.bot.obstacle is obstacle
    assert status.is_retryable == (obstacle is None)


@pytest.mark.parametrize(
    ("values", "is_retryable"),
    [
        ({}, False),
        ({"attempts": 1}, True),
        ({"state": SyncState.BLOCKED}, True),
        ({"sync__state": SyncState.BLOCKED}, True),
        ({"sync__unanswered_calls": 1}, True),
        ({"sync__attempts": 1}, True),
        (KNOWN_AS_ADMIN | {"state": SyncState.SYNCED, "sync__unanswered_calls": 1}, False),
        ({"attempts": 1, "sync__provisioning": Provisioning.OFF}, False),
    ],
)
def test_failed_calls_can_be_retried(
    database: Database, bot_id: str, values: dict[str, Any], is_retryable: bool
) -> None:
    change(database, bot_id, **values)
    assert load_status(database, bot_id).is_retryable == is_retryable


def test_running_update_is_an_obstacle(database: Database, bot_id: str) -> None:
    with database.transaction() as session:
        rollout = factories.rollout(session, factories.release(session))
        factories.update(session, rollout, session.get_one(Bot, bot_id), state=UpdateState.RUNNING)
    assert load_status(database, bot_id).bot.obstacle is Obstacle.UPDATING


def test_removed_bots_are_left_out(database: Database, bot_id: str) -> None:
    change(database, bot_id, bot__phase=BotPhase.REMOVED)
    with database.reading() as session:
        assert sync_status.load_statuses(session, Bot.id == bot_id) == {}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, ""),
        ({"attempts": 3, "last_error": "HTTP 500"}, "The last attempt failed. We keep trying."),
        ({"sync__unanswered_calls": 1}, "The last attempt failed. We keep trying."),
        ({"sync__attempts": 2}, "The last attempt failed. We keep trying."),
        ({"sync__state": SyncState.BLOCKED}, "The bot refused this. Your provider is informed."),
        (
            {"state": SyncState.BLOCKED, "last_error": "HTTP 401"},
            "The bot refused this. Your provider is informed.",
        ),
        (
            {"bot__desired_state": DesiredState.STOPPED},
            "The bot is stopped. Access follows when the bot runs.",
        ),
        (
            KNOWN_AS_ADMIN | {"bot__state": BotState.UNHEALTHY, "desired_role": SyncRole.NONE},
            "The bot is not responding. The removal follows when the bot runs.",
        ),
        (KNOWN_AS_ADMIN, "Until the bot confirms the lower role, Alice can't open it."),
        (
            {"bot__needs_attention": "docker start 1", "observed_role": SyncRole.MEMBER},
            "Your provider is repairing the bot. The change follows when the bot runs.",
        ),
        ({"bot__phase": BotPhase.REMOVING}, "The bot is scheduled for removal."),
        (KNOWN_AS_ADMIN | {"state": SyncState.SYNCED}, ""),
        ({"sync__provisioning": Provisioning.OFF, "attempts": 3}, ""),
    ],
)
def test_sentence_for_customers(database: Database, bot_id: str, values: dict[str, Any], sentence: str) -> None:
    change(database, bot_id, **values)
    assert sync_sentences.explain(load_status(database, bot_id), "Alice") == sentence


def test_status_that_most_needs_help_is_found(database: Database, bot_id: str) -> None:
    with database.transaction() as session:
        org, node = session.get_one(Bot, bot_id).org, session.get_one(Bot, bot_id).node
        for name, state in (("A", SyncState.SYNCED), ("B", SyncState.BLOCKED)):
            bot = factories.bot(session, org, node, name=name)
            sync_rows.connect(session, bot)
            sync_rows.observed(session, bot, "alice", state=state)
        sync_rows.pending(session, factories.bot(session, org, node, name="C"), "alice")
        statuses = sync_status.load_statuses(session, Bot.org_id == org.id)["alice"]
        assert [status.bot.name for status in statuses] == ["A", "B", "C", "Desk"]
        least = sync_status.find_least_advanced(statuses)
        assert least is not None
        assert (least.bot.name, least.progress) == ("B", SyncProgress.BLOCKED)
        assert sync_sentences.count_pending(statuses) == "2 of 4 bots"
        assert sync_sentences.count_pending(statuses[:1] * 3) == "3 bots"
        assert sync_status.find_least_advanced([]) is None

"""The member sync of each bot: numbers, state, order, filters, and a constant number of statements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
    DesiredState,
    MemberSync,
    Node,
    Org,
    Provisioning,
    SyncRole,
    SyncState,
    utcnow,
)
from portal.services.errors import NotFoundError
from portal.services.orgs import sync_status
from portal.services.orgs.sync_status import SyncProgress
from portal.services.syncs import bot_people, bot_states, sync_list
from portal.services.syncs.bot_states import BotSyncState
from portal.services.syncs.sync_list import BotSyncRow, SyncFilter
from tests import factories
from tests.support import sync_rows
from tests.support.statements import counted_statements

NOW = utcnow()


class Fleet:
    """Acme with some users and bots."""

    def __init__(self, session: Session) -> None:
        """Add the organization, the node and the users."""
        self.session = session
        self.org: Org = factories.org(session, factories.user(session, "alice"))
        self.node: Node = factories.node(session)
        self.users = [factories.user(session, f"user{number}").id for number in range(4)]

    def bot(self, name: str, org: Org | None = None, node: Node | None = None, **values: Any) -> Bot:
        """Add a connected bot; `values` are columns of its sync."""
        bot = factories.bot(self.session, org or self.org, node or self.node, name=name)
        sync_rows.connect(self.session, bot, **values)
        return bot

    def row(self, bot: Bot) -> BotSyncRow:
        """Load the row of a bot."""
        self.session.flush()
        (row,) = sync_list.load_rows(self.session, [bot])
        return row

    def names(self, wanted: SyncFilter) -> list[str]:
        """Return the names of the bots that match, in order."""
        return [row.bot.name for row in sync_list.search_syncs(self.session, wanted).lines]


@pytest.fixture
def fleet(database: Database) -> Iterator[Fleet]:
    """An organization with users, in one transaction."""
    with database.transaction() as session:
        yield Fleet(session)


def test_numbers_of_a_bot(fleet: Fleet) -> None:
    bot = fleet.bot("Desk")
    first, second, third, fourth = fleet.users
    sync_rows.observed(fleet.session, bot, first)
    sync_rows.observed(fleet.session, bot, second, SyncRole.NONE)
    moment = NOW - timedelta(hours=3)
    sync_rows.pending(fleet.session, bot, third, attempts=4, last_error="HTTP 500", changed_at=moment)
    sync_rows.pending(fleet.session, bot, fourth, SyncRole.NONE, state=SyncState.BLOCKED, attempts=2, changed_at=NOW)
    row = fleet.row(bot)
    assert (row.desired, row.observed, row.pending, row.removals, row.blocked) == (2, 1, 2, 1, 1)
    assert (row.oldest, row.attempts, row.error) == (moment, 4, "HTTP 500")
    assert row.state is BotSyncState.BLOCKED


def test_roles_observed_before_a_restore_are_pending(fleet: Fleet) -> None:
    bot = fleet.bot("Desk", provisioning=Provisioning.LINKED)
    sync_rows.observed(fleet.session, bot, fleet.users[0])
    assert fleet.row(bot).state is BotSyncState.SYNCED
    bot.epoch += 1
    row = fleet.row(bot)
    assert (row.state, row.pending, row.observed, row.oldest) == (BotSyncState.PENDING, 1, 0, None)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, BotSyncState.SYNCED),
        ({"provisioning": Provisioning.OFF, "state": SyncState.BLOCKED}, BotSyncState.NOT_CONNECTED),
        ({"state": SyncState.BLOCKED}, BotSyncState.BLOCKED),
        ({"refused_removals": 7}, BotSyncState.BLOCKED),
        ({"state": SyncState.PENDING}, BotSyncState.PENDING),
        ({"provisioned_epoch": None}, BotSyncState.PENDING),
        ({"provisioned_epoch": 0}, BotSyncState.PENDING),
        ({"provisioned_epoch": None, "provisioning": Provisioning.LINKED}, BotSyncState.SYNCED),
        ({"budget_cents": 500}, BotSyncState.PENDING),
        ({"budget_cents": 500, "observed_budget_cents": 500, "observed_budget_epoch": 1}, BotSyncState.SYNCED),
        ({"state": SyncState.PENDING, "bot__desired_state": DesiredState.STOPPED}, BotSyncState.WAITING),
        ({"bot__desired_state": DesiredState.STOPPED}, BotSyncState.SYNCED),
    ],
)
def test_state_without_people(fleet: Fleet, values: dict[str, Any], state: BotSyncState) -> None:
    bot = fleet.bot("Desk")
    for name, value in values.items():
        _target, _, column = name.partition("__")
        setattr(bot if column else fleet.session.get_one(BotSync, bot.id), column or name, value)
    assert fleet.row(bot).state is state
    counts = sync_list.count_by_state(fleet.session, SyncFilter())
    assert {name for name, count in counts.items() if count} == {state}
    assert bot_states.count_blocked(fleet.session) == (state is BotSyncState.BLOCKED)


def test_bot_without_a_row_is_not_connected(fleet: Fleet) -> None:
    bot = fleet.bot("Desk")
    fleet.session.delete(fleet.session.get_one(BotSync, bot.id))
    row = fleet.row(bot)
    assert (row.state, row.sync, row.refused_removals) == (BotSyncState.NOT_CONNECTED, None, 0)


def test_database_and_python_agree_on_what_is_pending(fleet: Fleet) -> None:
    """Compare the statements with `MemberSyncStatus`, for every combination of states."""
    bots = []
    for bot_state, desired, phase in product(BotState, DesiredState, (BotPhase.ACTIVE, BotPhase.CREATING)):
        for state, role, epoch in product(SyncState, (SyncRole.NONE, SyncRole.MEMBER), (None, 1, 2)):
            bot = fleet.bot(f"{bot_state} {desired} {phase} {state} {role} {epoch}")
            bot.state, bot.desired_state, bot.phase = bot_state, desired, phase
            bot.epoch = 2
            fleet.session.get_one(BotSync, bot.id).provisioned_epoch = 2
            sync_rows.observed(fleet.session, bot, fleet.users[0], role, state=state, observed_epoch=epoch)
            bots.append(bot)
    fleet.session.flush()
    statuses = sync_status.load_statuses(fleet.session, MemberSync.user_id == fleet.users[0])[fleet.users[0]]
    expected = {
        SyncProgress.BLOCKED: BotSyncState.BLOCKED,
        SyncProgress.WAITING: BotSyncState.WAITING,
        SyncProgress.REMOVING: BotSyncState.PENDING,
        SyncProgress.CHANGING: BotSyncState.PENDING,
        SyncProgress.SYNCED: BotSyncState.SYNCED,
        SyncProgress.ENDED: BotSyncState.SYNCED,
    }
    by_name = {status.bot.name: expected[status.progress] for status in statuses}
    rows = sync_list.load_rows(fleet.session, bots)
    assert {row.bot.name: row.state for row in rows} == by_name
    assert set(by_name.values()) == set(BotSyncState) - {BotSyncState.NOT_CONNECTED}


def test_bots_that_need_help_come_first_then_the_oldest_change(fleet: Fleet) -> None:
    synced, young, old, blocked = (fleet.bot(name) for name in ("A", "B", "C", "D"))
    sync_rows.observed(fleet.session, synced, fleet.users[0])
    sync_rows.pending(fleet.session, young, fleet.users[0], changed_at=NOW)
    sync_rows.pending(fleet.session, old, fleet.users[0], changed_at=NOW - timedelta(hours=1))
    sync_rows.pending(fleet.session, blocked, fleet.users[0], state=SyncState.BLOCKED)
    fleet.bot("E", provisioning=Provisioning.OFF)
    fleet.bot("F").phase = BotPhase.REMOVED
    assert fleet.names(SyncFilter()) == ["D", "C", "B", "A", "E"]


def test_filters(fleet: Fleet) -> None:
    beta = factories.org(fleet.session, factories.user(fleet.session, "berta"), "beta", name="Beta Ltd")
    south = factories.node(fleet.session, "south")
    desk = fleet.bot("Desk")
    shop = fleet.bot("Shop", beta, south)
    sync_rows.pending(fleet.session, desk, fleet.users[0], last_error="HTTP 500 (100%)")
    sync_rows.observed(fleet.session, shop, fleet.users[0])
    fleet.session.get_one(BotSync, shop.id).last_error = "no answer"
    found = {
        "pending": fleet.names(SyncFilter(state=BotSyncState.PENDING)),
        "blocked": fleet.names(SyncFilter(state=BotSyncState.BLOCKED)),
        "node": fleet.names(SyncFilter(node_id=south.id)),
        "org": fleet.names(SyncFilter(org="BETA")),
        "bot": fleet.names(SyncFilter(text="desk")),
        "org by text": fleet.names(SyncFilter(text=" ltd ")),
        "error of a person": fleet.names(SyncFilter(text="(100%)")),
        "error of the bot": fleet.names(SyncFilter(text="NO ANSWER")),
        "percent": fleet.names(SyncFilter(text="%%")),
    }
    assert found == {
        "pending": ["Desk"],
        "blocked": [],
        "node": ["Shop"],
        "org": ["Shop"],
        "bot": ["Desk"],
        "org by text": ["Shop"],
        "error of a person": ["Desk"],
        "error of the bot": ["Shop"],
        "percent": [],
    }
    counts = sync_list.count_by_state(fleet.session, SyncFilter(org="beta", state=BotSyncState.PENDING))
    assert {name: count for name, count in counts.items() if count} == {BotSyncState.SYNCED: 1}
    assert sync_list.count_by_state(fleet.session, replace(SyncFilter(), text="nothing"))[BotSyncState.SYNCED] == 0


def test_pages_need_a_constant_number_of_statements(
    fleet: Fleet, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_list, "BOTS_PER_PAGE", 5)
    numbers = []
    for count in (1, 11):
        for number in range(count):
            bot = fleet.bot(f"Bot {count} {number:02}")
            for user in fleet.users:
                sync_rows.pending(fleet.session, bot, user)
        fleet.session.flush()
        fleet.session.expire_all()
        with counted_statements(database.engine) as sent:
            listing = sync_list.search_syncs(fleet.session, SyncFilter(), page=2)
            assert [row.bot.org.name + row.bot.node.name for row in listing.lines]
            sync_list.count_by_state(fleet.session, SyncFilter())
        numbers.append(len(sent))
    assert (listing.total, listing.page, listing.pages, len(listing.lines)) == (12, 2, 3, 5)
    assert numbers[0] == numbers[1] <= 7


def test_people_of_a_bot_in_pages_pending_first(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_people, "PEOPLE_PER_PAGE", 3)
    bot, other = fleet.bot("Desk"), fleet.bot("Shop")
    sync_rows.pending(fleet.session, other, fleet.users[0])
    for user in fleet.users[:3]:
        sync_rows.observed(fleet.session, bot, user)
    row = sync_rows.pending(fleet.session, bot, fleet.users[3])
    names = [[line.user.name for line in bot_people.list_people(fleet.session, bot, page).lines] for page in (1, 2)]
    assert names == [["User3", "User0", "User1"], ["User2"]]
    assert bot_people.find_row(fleet.session, bot, row.id) is row
    with pytest.raises(NotFoundError):
        bot_people.find_row(fleet.session, other, row.id)
    beta = factories.org(fleet.session, factories.user(fleet.session, "berta"), "beta")
    assert bot_people.find_row_of_org(fleet.session, fleet.org, row.id) is row
    with pytest.raises(NotFoundError):
        bot_people.find_row_of_org(fleet.session, beta, row.id)


def test_removed_bot_is_not_found(fleet: Fleet) -> None:
    bot = fleet.bot("Desk")
    assert bot_people.get_bot(fleet.session, bot.id).bot is bot
    bot.phase = BotPhase.REMOVED
    fleet.session.flush()
    for bot_id in (bot.id, "nothing"):
        with pytest.raises(NotFoundError):
            bot_people.get_bot(fleet.session, bot_id)

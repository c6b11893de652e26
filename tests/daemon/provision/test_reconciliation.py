"""Reconciliation: drift is found and repaired both ways, within limits, and at the right moments."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portal.database import Database
from portal.models import Bot, MembershipRole, SyncRole, SyncState, utcnow
from portal.services.errors import ConflictError
from portal.services.syncs import bot_states, operations
from tests.daemon.provision.toy_bot import ToyBot, Trouble, running_toy_bot
from tests.daemon.provision.world import SyncWorld


@pytest.fixture
def members(world: SyncWorld, toy: ToyBot) -> dict[str, str]:
    """The members of the company in the toy bot, by id: alice and bob, in sync."""
    world.join(world.add_user("bob"))
    world.sync()
    world.paths()
    world.let_reconcile()
    return toy.data.members[str(world.bot().company_id)]


def find_id(world: SyncWorld, members: dict[str, str]) -> str:
    """Return the id of bob."""
    return next(user for user in members if user != world.owner_id)


def test_without_drift_one_call_suffices(world: SyncWorld, members: dict[str, str]) -> None:
    world.sync()
    assert world.paths() == ["members"]
    sync = world.bot_sync()
    assert (sync.drift_count, sync.lists_members) == (0, True)
    assert sync.next_reconcile_at is not None
    assert timedelta(minutes=8) < sync.next_reconcile_at - utcnow() < timedelta(minutes=11)


def test_a_member_who_is_missing_is_added(world: SyncWorld, members: dict[str, str]) -> None:
    bob = find_id(world, members)
    del members[bob]
    world.sync()
    assert world.paths() == ["members", "add"]
    assert world.in_bot()[bob] == "member"
    (event,) = world.events("sync.drift")
    assert event.data == {"user_id": bob, "found": "none", "expected": "member"}


def test_a_role_that_was_raised_is_lowered(world: SyncWorld, members: dict[str, str]) -> None:
    bob = find_id(world, members)
    members[bob] = "owner"
    world.sync()
    assert world.in_bot()[bob] == "member"
    assert world.bot_sync().drift_count == 1
    assert world.row(bob).observed_role is SyncRole.MEMBER


def test_a_removed_member_who_is_back_is_removed(world: SyncWorld, members: dict[str, str]) -> None:
    bob = find_id(world, members)
    world.remove(bob)
    world.sync()
    members[bob] = "member"
    world.let_reconcile()
    world.sync()
    assert bob not in world.in_bot()


def test_wrong_grants_are_repaired(
    world: SyncWorld, members: dict[str, str], toy: ToyBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"userId": world.owner_id, "role": "owner", "grants": ["costs:view"]}
    monkeypatch.setattr(toy, "_list", lambda _company: (200, {"members": [entry]}))
    world.sync()
    assert world.bot_sync().drift_count == 2  # and bob, who is not listed
    assert [event.data["user_id"] for event in world.events("sync.drift")].count(world.owner_id) == 1


def test_a_newer_version_in_the_bot_is_overtaken(world: SyncWorld, members: dict[str, str], toy: ToyBot) -> None:
    bob = find_id(world, members)
    toy.data.versions[str(world.bot().company_id), bob] = 50
    world.sync()
    world.set_role(bob, MembershipRole.ADMIN)
    world.sync()
    assert world.in_bot()[bob] == "admin"
    assert world.row(bob).desired_version == 52
    assert world.row(bob).attempts == 0


@pytest.mark.parametrize("number", [1, 3])
def test_unknown_members_are_removed(world: SyncWorld, members: dict[str, str], number: int) -> None:
    members |= {f"stranger {index}": "admin" for index in range(number)}
    world.sync()
    assert set(world.in_bot()) == set(world.desired())
    assert world.bot_sync().drift_count == number
    assert world.bot_sync().refused_removals is None


def test_too_many_unknown_members_stay_until_an_operator_allows(world: SyncWorld, members: dict[str, str]) -> None:
    members |= {f"stranger-{index}": "member" for index in range(4)}
    for _ in range(2):
        world.let_reconcile()
        world.sync()
    assert len(world.in_bot()) == 6
    assert world.bot_sync().refused_removals == 4
    (event,) = world.events("sync.removals_refused")
    assert event.data == {"unknown": 4, "listed": 6}
    with world.database.transaction() as session:
        assert operations.allow_removals(session, session.get_one(Bot, world.bot_id), actor=None) == 4
    members["another stranger"] = "member"  # more than the operator has seen
    world.sync()
    assert len(world.in_bot()) == 7
    del members["another stranger"]
    world.let_reconcile()
    world.sync()
    assert set(world.in_bot()) == set(world.desired())
    with world.database.transaction() as session, pytest.raises(ConflictError, match="No removals"):
        operations.allow_removals(session, session.get_one(Bot, world.bot_id), actor=None)


def test_thirty_percent_may_be_removed(world: SyncWorld, members: dict[str, str]) -> None:
    for index in range(18):
        world.join(world.add_user(f"user{index}"))
    world.sync()
    members |= {f"stranger-{index}": "member" for index in range(8)}
    world.let_reconcile()
    world.sync()
    assert set(world.in_bot()) == set(world.desired())


def test_an_unknown_member_who_joins_is_not_removed(world: SyncWorld, members: dict[str, str], toy: ToyBot) -> None:
    carol = world.add_user("carol")
    members[carol] = "member"
    toy.on_call = lambda call: world.join(carol) if "GET" in call.path and world.role_of(carol) is None else None
    world.sync()
    assert world.in_bot()[carol] == "member"
    assert "remove" not in world.paths()


def test_a_failed_removal_repeats_the_reconciliation(world: SyncWorld, members: dict[str, str], toy: ToyBot) -> None:
    members["stranger"] = "member"
    toy.choose_trouble = lambda path: Trouble.ERROR if path.endswith("remove") else None
    world.sync()
    assert world.bot_sync().attempts == 1
    toy.choose_trouble = lambda _path: None
    world.skip_waiting()
    world.sync()
    assert "stranger" not in world.in_bot()


def test_a_lying_list_does_not_flood_the_log(world: SyncWorld, members: dict[str, str], toy: ToyBot) -> None:
    for index in range(25):
        world.join(world.add_user(f"user{index}"))
    world.sync()
    members.clear()
    world.let_reconcile()
    world.sync()
    assert world.bot_sync().drift_count == 27
    assert len(world.events("sync.drift")) == 20
    assert set(world.in_bot()) == set(world.desired())


def test_a_bot_without_the_list_gets_all_members_again(database: Database) -> None:
    with running_toy_bot(lists_members=False) as toy:
        world = SyncWorld(database, toy)
        bob, carol = world.add_user("bob"), world.add_user("carol")
        world.join(bob)
        world.join(carol)
        world.remove(carol)
        world.sync()
        assert world.bot_sync().lists_members is False
        members = toy.data.members[str(world.bot().company_id)]
        members[carol], members[bob] = "admin", "owner"
        world.paths()
        world.let_reconcile()
        world.sync()
        assert world.paths() == ["members", "remove", "add", "add"]
        assert world.in_bot() == {world.owner_id: "owner", bob: "member"}


def test_a_bot_that_stops_listing_is_no_longer_blocked_by_its_former_list(
    world: SyncWorld, members: dict[str, str], toy: ToyBot
) -> None:
    members |= {f"stranger-{index}": "member" for index in range(4)}
    world.sync()
    with world.database.transaction() as session:
        operations.allow_removals(session, session.get_one(Bot, world.bot_id), actor=None)
    toy.lists_members = False
    world.sync()
    sync = world.bot_sync()
    assert (sync.lists_members, sync.refused_removals, sync.allowed_removals) == (False, None, None)
    with world.database.reading() as session:
        assert bot_states.count_blocked(session) == 0


def test_a_list_that_fails_is_pending_since_the_failure(
    world: SyncWorld, members: dict[str, str], toy: ToyBot
) -> None:
    world.sync()
    world.change_sync(changed_at=utcnow() - timedelta(days=30))
    world.let_reconcile()
    toy.choose_trouble = lambda _path: Trouble.ERROR
    world.sync()
    first = world.bot_sync()
    assert first.state is SyncState.PENDING
    assert utcnow() - first.changed_at < timedelta(minutes=1)
    world.skip_waiting()
    world.sync()
    assert (world.bot_sync().attempts, world.bot_sync().changed_at) == (first.attempts + 1, first.changed_at)


def test_an_interrupted_round_continues_where_it_was(database: Database) -> None:
    with running_toy_bot(lists_members=False) as toy:
        world = SyncWorld(database, toy)
        for index in range(5):
            world.join(world.add_user(f"user{index}"))
        world.sync()
        world.paths()
        world.let_reconcile()
        calls = iter(range(100))
        toy.choose_trouble = lambda _path: Trouble.RESTART if next(calls) == 4 else None
        world.sync()
        toy.choose_trouble = lambda _path: None
        world.skip_waiting()
        world.sync()
        assert world.paths().count("add") == 6  # each member once
        assert world.bot_sync().reconciled_at is not None


def test_a_bot_that_becomes_healthy_is_synced_and_compared_at_once(
    world: SyncWorld, members: dict[str, str], toy: ToyBot
) -> None:
    bob = find_id(world, members)
    world.sync()
    toy.choose_trouble = lambda _path: Trouble.RESTART
    world.set_role(bob, MembershipRole.ADMIN)
    for _ in range(3):
        world.sync()
    toy.choose_trouble = lambda _path: None
    world.change_sync(next_call_at=utcnow() + timedelta(minutes=15))
    members["stranger"] = "owner"
    world.become_healthy()
    world.sync()
    assert world.in_bot() == {world.owner_id: "owner", bob: "admin"}


def test_a_list_of_an_earlier_epoch_repairs_nothing(world: SyncWorld, members: dict[str, str], toy: ToyBot) -> None:
    members["stranger"] = "owner"
    toy.on_call = lambda call: world.change_bot(epoch=2) if "GET" in call.path and world.bot().epoch == 1 else None
    world.sync()
    assert (world.bot_sync().reconciled_epoch, world.bot_sync().drift_count) == (1, 0)
    world.sync()
    assert world.bot_sync().reconciled_epoch == 2
    assert world.bot_sync().drift_count == 1
    assert set(world.in_bot()) == set(world.desired())

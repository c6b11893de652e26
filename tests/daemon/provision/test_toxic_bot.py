"""Thousands of random changes while the bot misbehaves in every known way and its data is taken back in time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from daemon.provision.sync_jobs import Lane
from portal.models import MembershipRole
from portal.rules import backoff
from tests.daemon.provision.toy_bot import Received, ToyBot, Trouble
from tests.daemon.provision.world import IS_LONG_RUN, SyncWorld

PEOPLE = 30
FEW_CHANGES = 60
MANY_CHANGES = 10_000 if IS_LONG_RUN else 1_000
LANE = Lane(call_seconds=0.05, parallel=4)
RARE = (Trouble.HANG, Trouble.HANG_AFTER, Trouble.DRIP, Trouble.HUGE)
"""Troubles that cost time."""


class Observer:
    """Checks each call when the bot receives it, and the bot after each sync.

    A worker builds a call after the bot has received the call before. So a call must be at least as new as the wishes
    that were committed at that earlier moment.
    """

    def __init__(self, world: SyncWorld) -> None:
        self.world = world
        self.committed: dict[str, int] = {}
        self.committed_at_last_call: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self.received_before: dict[str, int] = {}
        self.calls = 0
        self.problems: list[str] = []

    def check_call(self, call: Received) -> None:
        """Check that a call carries no wish that was outdated when the call was built."""
        self.calls += 1
        oldest = self.committed_at_last_call.get(call.user_id, 0)
        if "/members/" in call.path and call.body["version"] < oldest:
            self.problems.append(f"version {call.body['version']} was sent after {oldest} was committed")
        self.received[call.user_id] = call.body.get("version", 0)
        self.committed_at_last_call = dict(self.committed)

    def wait_until_all_are_received(self) -> int:
        """Wait until the bot has received everyone's newest wish. Return how many people need a call for that.

        Several changes of a person between two calls need one call only.
        """
        deadline = time.monotonic() + 60
        while any(self.received.get(user_id, 0) < version for user_id, version in self.committed.items()):
            assert time.monotonic() < deadline, "a wish was never sent"
            time.sleep(0.002)
        needed = [
            user_id for user_id in self.committed if self.committed[user_id] > self.received_before.get(user_id, 0)
        ]
        self.received_before = dict(self.committed)
        return len(needed)

    def check_bot(self) -> None:
        """Check that the bot has no user whose removal was observed in this epoch."""
        inside = self.world.in_bot()  # first: only syncs, which this thread runs, remove users
        regained = [user_id for user_id in self.world.observed_removals() if user_id in inside]
        self.problems.extend(f"{user_id} regained {inside[user_id]}" for user_id in regained)


def change_randomly(world: SyncWorld, observer: Observer, users: list[str], chance: random.Random) -> None:
    """Let one random person join, change the role or leave."""
    user_id, role = chance.choice(users), chance.choice(list(MembershipRole))
    if world.role_of(user_id) is None:
        world.join(user_id, role)
    elif chance.random() < 0.5:
        world.remove(user_id)
    else:
        world.set_role(user_id, role)
    observer.committed[user_id] = world.row(user_id).desired_version


def make_trouble(chance: random.Random) -> Callable[[str], Trouble | None]:
    """Return a function that chooses some trouble for a third of the calls."""

    def choose(_path: str) -> Trouble | None:
        if chance.random() > 0.3:
            return None
        trouble = chance.choice(list(Trouble))
        return None if trouble in RARE and chance.random() > 0.05 else trouble

    return choose


@pytest.mark.parametrize("knows_versions", [True, False])
def test_the_bot_ends_with_the_desired_members(
    world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch, knows_versions: bool
) -> None:
    change_and_sync(world, toy, monkeypatch, FEW_CHANGES, knows_versions=knows_versions)


# The marks are on the test: those of a parameter do not limit the kinds of databases.
@pytest.mark.slow
@pytest.mark.requests
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("knows_versions", [True, False])
def test_the_bot_ends_with_the_desired_members_after_many_changes(
    world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch, knows_versions: bool
) -> None:
    change_and_sync(world, toy, monkeypatch, MANY_CHANGES, knows_versions=knows_versions)


def change_and_sync(
    world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch, changes: int, *, knows_versions: bool
) -> None:
    """Change members at random while another thread syncs them, and check calls and bot all the time."""
    monkeypatch.setattr(backoff, "LONGEST_DELAY", backoff.FIRST_DELAY / 1000)
    toy.knows_versions = knows_versions
    chance = random.Random(changes)  # noqa: S311 - not a secret
    users = [world.add_user(f"person{number}") for number in range(PEOPLE)]
    world.sync()
    observer, needed = Observer(world), 0
    toy.on_call, toy.choose_trouble = observer.check_call, make_trouble(random.Random(1))  # noqa: S311 - not a secret
    ended = threading.Event()

    def sync_until_ended() -> None:
        while not ended.is_set():
            world.sync(LANE)
            observer.check_bot()

    syncing = threading.Thread(target=sync_until_ended)
    syncing.start()
    try:
        for number in range(changes):
            change_randomly(world, observer, users, chance)
            if number % 100 == 25:
                needed += observer.wait_until_all_are_received()
            elif number % 100 == 50:
                snapshot = toy.snapshot()
            elif number % 100 == 99:
                world.change_bot(epoch=world.bot().epoch + 1)
                toy.restore(snapshot)
    finally:
        ended.set()
        syncing.join()
    toy.choose_trouble = lambda _path: None
    world.let_reconcile()
    world.settle()
    observer.check_bot()
    assert observer.problems == []
    assert observer.calls >= needed > changes / 4, "the changes and the calls must alternate"
    assert world.in_bot() == world.desired()

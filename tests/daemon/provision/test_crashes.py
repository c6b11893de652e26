"""A worker that is killed before, during or after a call: nothing is lost, and nothing has a second effect."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from multiprocessing import get_context
from types import ModuleType
from typing import NoReturn
from unittest.mock import patch

import pytest

from daemon.provision import sync_jobs
from daemon.provision.client import ProvisionClient
from portal.models import MembershipRole
from portal.services.syncs import company_calls, member_calls
from tests.daemon.provision.toy_bot import Received, ToyBot, Trouble
from tests.daemon.provision.world import LANE, SyncWorld

POINTS = ("before the call", "during the call", "after the call", "before the commit")


def die(*_: object) -> NoReturn:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("the process survived")


def sync_and_die(world: SyncWorld, point: str, method: str, recorder: tuple[ModuleType, str]) -> None:
    """Run the job in a process that is killed at a point of its first call of a kind."""
    send, record = getattr(ProvisionClient, method), getattr(*recorder)
    replaced = {
        "before the call": (ProvisionClient, method, die),
        "after the call": (ProvisionClient, method, lambda *args: (send(*args), die())),
        "before the commit": (*recorder, lambda *args: (record(*args), die())),
    }
    if point in replaced:
        patch.object(*replaced[point]).start()
    sync_jobs.sync_node(world.database, world.node_id, LANE)
    os._exit(0)


def kill_worker(
    world: SyncWorld,
    toy: ToyBot,
    point: str,
    method: str = "change_member",
    recorder: tuple[ModuleType, str] = (member_calls, "record_success"),
) -> None:
    """Let a worker send a call, and kill it."""
    process = get_context("fork").Process(target=sync_and_die, args=(world, point, method, recorder))
    if point == "during the call":
        toy.choose_trouble = lambda _path: Trouble.HANG_AFTER

        def kill(_call: Received) -> None:
            process.kill()

        toy.on_call = kill
    process.start()
    process.join(20)
    toy.choose_trouble = lambda _path: None
    toy.on_call = lambda _call: None
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.requests
def test_killed_workers_lose_and_double_nothing(world: SyncWorld, toy: ToyBot) -> None:
    bob = world.add_user("bob")
    world.sync()
    toy.received.clear()
    for number in range(100):
        if world.role_of(bob) is None:
            world.join(bob)
        elif number % 3:
            world.set_role(bob, MembershipRole.ADMIN if world.role_of(bob) == "member" else MembershipRole.MEMBER)
        else:
            world.remove(bob)
        kill_worker(world, toy, POINTS[number % len(POINTS)])
        world.skip_waiting()  # the claim of the dead worker expires
        world.sync()
        assert world.in_bot() == world.desired()
        assert world.is_settled()
    keys = defaultdict(set)
    for call in toy.received:
        if call.user_id == bob:
            keys[call.body["version"]].add(call.key)
    assert len(keys) == 100
    assert {len(of_version) for of_version in keys.values()} == {1}  # repetitions are known as such


@pytest.mark.parametrize("point", POINTS)
def test_workers_killed_while_they_provision_leave_one_company(world: SyncWorld, toy: ToyBot, point: str) -> None:
    kill_worker(world, toy, point, "provision", (company_calls, "record_provisioned"))
    world.skip_waiting()
    world.sync()
    assert world.is_settled()
    assert toy.data.members == {str(world.bot().company_id): {world.owner_id: "owner"}}
    assert world.paths().count("provision") == (1 if point == "before the call" else 2)


def test_a_claim_keeps_other_workers_away_until_it_expires(world: SyncWorld, toy: ToyBot) -> None:
    world.sync()
    world.join(world.add_user("bob"))
    kill_worker(world, toy, "before the call")
    world.paths()
    world.sync()
    assert world.paths() == []
    world.skip_waiting()
    world.sync()
    assert world.paths() == ["add"]

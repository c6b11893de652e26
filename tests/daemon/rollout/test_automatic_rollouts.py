"""Bots join an automatic rollout: in bounded transactions, once, whichever schedulers die or run at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from daemon.rollout import automatic_rollouts, orchestrator
from portal.models import Bot, BotUpdate, Channel
from tests.support.world import World


def list_waves(world: World) -> list[int | None]:
    with world.database.reading() as session:
        return list(session.scalars(sa.select(BotUpdate.wave)))


def test_bots_join_in_bounded_groups_and_no_wave_starts_before_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic_rollouts, "_JOINING_AT_ONCE", 2)
    world.add_bots(5)
    world.push("2.0.0")

    ticks = [(world.tick(), list_waves(world)) for _ in range(3)]

    assert [(len(due), len(waves)) for due, waves in ticks] == [(0, 2), (0, 4), (1, 5)]
    assert sorted(ticks[-1][1], key=str) == [1, None, None, None, None]


def test_bots_of_the_canary_channel_join_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic_rollouts, "_JOINING_AT_ONCE", 1)
    *_, canary = world.add_bots(3)
    world.change(Bot, canary, release_channel=Channel.CANARY)
    world.push("2.0.0")

    world.tick()

    with world.database.reading() as session:
        assert session.scalars(sa.select(BotUpdate.bot_id)).all() == [canary]


@pytest.mark.slow
def test_two_schedulers_that_tick_at_once_add_each_bot_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic_rollouts, "_JOINING_AT_ONCE", 7)
    bots = world.add_bots(20)
    world.push("2.0.0")
    barrier = Barrier(2)

    def tick_often() -> None:
        for _ in range(5):
            barrier.wait()
            orchestrator.tick(world.database, world.now, None)

    with ThreadPoolExecutor() as threads:
        for running in [threads.submit(tick_often) for _ in range(2)]:
            running.result()

    assert len(world.rollouts()) == 1
    with world.database.reading() as session:
        assert sorted(session.scalars(sa.select(BotUpdate.bot_id))) == sorted(bots)
    assert list_waves(world).count(1) == 1

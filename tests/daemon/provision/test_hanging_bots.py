"""Of 200 bots, 20 hang: the others are served before the first of these calls is given up."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from daemon.provision import sync_jobs
from daemon.provision.sync_jobs import Lane
from portal.models import BotSync
from tests.daemon.provision.toy_bot import Received, Trouble, running_toy_bot
from tests.daemon.provision.world import SyncWorld

HEALTHY, HANGING = 180, 20
LANE = Lane(call_seconds=120, parallel=sync_jobs.FAST_LANE.parallel)
"""A call is given up much later than all other bots need, also on a busy machine."""


@pytest.mark.slow
@pytest.mark.requests
def test_hanging_bots_do_not_delay_others(world: SyncWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_jobs, "_JOB_SECONDS", LANE.call_seconds)
    listed: list[Received] = []
    all_are_listed = threading.Event()
    with running_toy_bot() as healthy, running_toy_bot() as hanging:

        def count(call: Received) -> None:
            if "GET" in call.path:  # the last call of a sync
                listed.append(call)
            if len(listed) == HEALTHY:
                all_are_listed.set()

        def hang_until_all_are_listed(_path: str) -> Trouble | None:
            return None if all_are_listed.wait(LANE.call_seconds / 2) else Trouble.RESTART

        healthy.on_call, hanging.choose_trouble = count, hang_until_all_are_listed
        with world.database.transaction() as session:
            for number in range(HEALTHY + HANGING):
                world.add_bot(session, hanging if number % 10 == 0 else healthy)
        sync_jobs.sync_node(world.database, world.node_id, LANE)
        with world.database.reading() as session:
            late = session.scalars(sa.select(BotSync.bot_id).where(BotSync.unanswered_calls > 0)).all()
    assert len(listed) == HEALTHY
    assert late == []


def test_known_hanging_bots_are_not_called_by_the_job_of_the_node(world: SyncWorld) -> None:
    world.change_sync(unanswered_calls=1)
    sync_jobs.sync_node(world.database, world.node_id, LANE)
    assert world.paths() == []
    sync_jobs.sync_unanswering(world.database, LANE)
    assert world.is_settled()

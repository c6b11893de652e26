"""Tests of the engines that only pretend: an update runs on them as on a real engine."""

from dataclasses import replace
from pathlib import Path

import pytest

from daemon.rollout import orchestrator
from daemon.update.sequence import update_bot
from demo.bench.rollout import simulation
from demo.bench.rollout.fake_platform import FakePlatform
from portal.database import Database
from portal.models import BotUpdate, UpdateState, utcnow
from portal.settings import Settings


@pytest.mark.processes
def test_an_update_succeeds_and_its_calls_are_counted(database: Database, settings: Settings, tmp_path: Path) -> None:
    platform = FakePlatform(database, tmp_path)
    simulation.create_fleet(database, platform, bots=1)
    simulation.start_rollout(database)
    with platform.running_engines(nodes=1, bots=1):
        [due] = orchestrator.tick(database, utcnow(), None)
        update_bot(database, replace(settings, fleet_image_allowlist=("registry.example",)), due.update_id)
        usage = platform.read_usage()

    with database.reading() as session:
        update = session.get_one(BotUpdate, due.update_id)
        assert (update.state, update.error) == (UpdateState.UPDATED, None)
        assert update.cleaned_at is not None
        assert update.bot.container_id == update.new_container_id
    assert usage.engine_calls["POST /containers/ID/rename"] == 2  # the swap of the names
    assert not [call for call in usage.engine_calls if due.update_id in call or "container-0" in call]

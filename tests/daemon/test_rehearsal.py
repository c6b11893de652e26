"""Rehearsal of jobs: it prepares the statements of an update, and leaves nothing in the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from daemon.rehearsal import rehearse
from daemon.rollout import orchestrator
from daemon.update.sequence import update_bot
from demo.bench.rollout import simulation
from demo.bench.rollout.fake_platform import FakePlatform
from portal.database import Database
from portal.models import Base, BotUpdate, UpdateState, utcnow
from portal.settings import Settings


def count_rows(database: Database) -> dict[str, int]:
    with database.reading() as session:
        return {
            table.name: session.scalars(sa.select(sa.func.count()).select_from(table)).one()
            for table in Base.metadata.sorted_tables
        }


def test_rehearsal_leaves_nothing_in_the_database(database: Database) -> None:
    before = count_rows(database)
    rehearse(database)
    assert count_rows(database) == before


@pytest.mark.processes
def test_an_update_compiles_few_statements_after_a_rehearsal(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    platform = FakePlatform(database, tmp_path)
    simulation.create_fleet(database, platform, bots=1)
    simulation.start_rollout(database)
    [due] = orchestrator.tick(database, utcnow(), None)
    rehearse(database)
    compiled: Counter[bool] = Counter()

    def record(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        compiled[context.compiled is not None and context.cache_hit.name == "CACHE_MISS"] += 1

    event.listen(database.engine, "before_cursor_execute", record)
    with platform.running_engines(nodes=1, bots=1):
        update_bot(database, replace(settings, fleet_image_allowlist=("registry.example",)), due.update_id)
        usage = platform.read_usage()

    with database.reading() as session:
        update = session.get_one(BotUpdate, due.update_id)
        assert (update.state, update.error) == (UpdateState.UPDATED, None)
        assert update.bot.container_id == update.new_container_id
    # Without a rehearsal, 36 are compiled. Writes that name the fence of the lease are not rehearsed.
    assert compiled[True] < 15 < compiled[False]
    # The benchmark counts the calls without the ids in them.
    assert usage.engine_calls["POST /containers/ID/rename"] == 2
    assert not [call for call in usage.engine_calls if due.update_id in call or "container-0" in call]

"""The context that the steps of an update share."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from daemon.bot_lease import BotLease
from daemon.update.update_context import UpdateContext
from portal.database import Database
from portal.models import BotUpdate
from portal.settings import Settings
from tests.support.world import World


def test_health_timeout_is_that_of_the_strategy_unless_the_setting_is_given(
    database: Database, settings: Settings
) -> None:
    world = World(database)
    [bot_id] = world.add_bots(1)
    world.start(world.push("2.0.0"), [bot_id])
    with database.reading() as session:
        update_id = session.scalars(sa.select(BotUpdate.id)).one()
    minute = timedelta(minutes=1)

    with BotLease(database, bot_id) as lease:
        unset, given = (
            UpdateContext(replace(settings, health_timeout=timeout), lease, update_id).health_timeout
            for timeout in (None, minute)
        )

    assert (unset, given) == (timedelta(minutes=2), minute)

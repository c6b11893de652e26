"""Gateway processes: updates wait for those that are alive and still forward requests."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotUpdate, GatewayProcess, Release, Step, UpdateState, utcnow
from portal.services.gateway import processes
from tests import factories
from tests.support.scene import Scene


def test_an_update_waits_until_every_living_process_has_drained(database: Database) -> None:
    with database.transaction() as session:
        assert processes.has_drained(session, "update")
        for process in ("first", "second"):
            processes.record_held(session, process, {})
        assert not processes.has_drained(session, "update")
        processes.record_held(session, "first", {"update": 0})
        processes.record_held(session, "second", {"update": 3, "another": 0})
        assert not processes.has_drained(session, "update")
        processes.record_held(session, "second", {"update": 0, "another": 2})
        assert processes.has_drained(session, "update")
        assert not processes.has_drained(session, "another")
        processes.remove(session, "first")
        processes.remove(session, "second")
        assert processes.has_drained(session, "another")


def test_a_dead_process_does_not_delay_updates(database: Database) -> None:
    with database.transaction() as session:
        processes.record_held(session, "suspended", {})
        session.execute(sa.update(GatewayProcess).values(seen_at=utcnow() - timedelta(seconds=11)))
        assert processes.has_drained(session, "update")
        session.execute(sa.delete(GatewayProcess))
    with database.transaction() as session:
        processes.record_held(session, "suspended", {})  # it was only suspended
        assert not processes.has_drained(session, "update")


def test_updates_out_of_service_are_listed(database: Database, scene: Scene) -> None:
    with database.transaction() as session:
        rollout = factories.rollout(session, session.get_one(Release, scene.new))
        steps = [Step.PULL, Step.DRAIN, Step.HEALTH]
        updates = [
            factories.update(session, rollout, session.get_one(Bot, bot_id), state=UpdateState.RUNNING, step=step)
            for bot_id, step in zip(scene.bots, steps, strict=True)
        ]
        expected = {update.id: update.bot_id for update in updates[1:]}
        assert processes.list_updates_out_of_service(session) == expected
        session.execute(sa.update(BotUpdate).values(state=UpdateState.UPDATED, ended_at=utcnow()))
        assert processes.list_updates_out_of_service(session) == {}

"""The context that the steps of an update share."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.bot_lease import BotLease
from daemon.update.update_context import UpdateContext
from portal.database import Database
from portal.models import BotUpdate, Verdict
from portal.services.rollouts import outcomes, updates
from portal.settings import Settings
from tests.support.world import World


def add_update(database: Database) -> tuple[str, str]:
    """Add a bot with a pending update and return both ids."""
    world = World(database)
    [bot_id] = world.add_bots(1)
    world.start(world.push("2.0.0"), [bot_id])
    with database.reading() as session:
        return bot_id, session.scalars(sa.select(BotUpdate.id)).one()


def open_context(settings: Settings, lease: BotLease, update_id: str) -> UpdateContext:
    """Return the context of an update, as after its claim."""
    with lease.transaction() as session:
        return UpdateContext(settings, lease, updates.load(session, update_id), "install")


def test_health_check_timeout_is_that_of_the_strategy_unless_the_setting_is_given(
    database: Database, settings: Settings
) -> None:
    bot_id, update_id = add_update(database)
    minute = timedelta(minutes=1)

    with BotLease(database, bot_id) as lease:
        unset, given = (
            open_context(replace(settings, health_check_timeout=timeout), lease, update_id).health_check_timeout
            for timeout in (None, minute)
        )

    assert (unset, given) == (timedelta(minutes=2), minute)


def test_verdict_is_recorded_without_text_that_the_database_refuses(database: Database, settings: Settings) -> None:
    def record(session: Session, update: BotUpdate, reason: str, log_tail: str | None) -> None:
        outcomes.mark_failed(session, update, reason, log_tail)
        # The column cleans this text, so the database gets it here as it is.
        session.execute(sa.text("SELECT :reason"), {"reason": reason})

    bot_id, update_id = add_update(database)
    with BotLease(database, bot_id) as lease:
        context = open_context(settings, lease, update_id)
        context.record_outcome(record, "half of a pair: \ud800", None)
    with database.reading() as session:
        update = session.get_one(BotUpdate, update_id)
        assert (update.verdict, update.log_tail, update.bot.epoch) == (Verdict.FAILED, None, 2)
    assert update.error == "The details could not be stored."

"""Observations of bots do not load their secrets, and those that only repeat what is known cost one statement."""

from __future__ import annotations

from portal.database import Database
from portal.models import Bot, BotState, Event, utcnow
from portal.models.encrypted import use_keys
from portal.services.bots import observations
from portal.services.bots.observations import Observation
from tests.daemon.rows import add_bot, add_node
from tests.support.statements import counted_statements


def test_bot_whose_secrets_cannot_be_decrypted_is_observed(database: Database) -> None:
    node = add_node(database)
    bot = add_bot(database, node)
    use_keys("another key than the one that encrypted the secrets")

    with database.transaction() as session:
        (found,) = observations.list_observable(session, node.id)
    observation = Observation(found.id, str(found.container_id), BotState.STOPPED, "exited with status 0", None)
    with database.transaction() as session:
        observations.record_observations(session, node.id, [observation], utcnow())

    with database.reading() as session:
        assert session.query(Bot.state).filter_by(id=bot.id).scalar() is BotState.STOPPED


def test_repeated_observations_of_many_bots_are_recorded_by_two_statements(database: Database) -> None:
    node = add_node(database)
    bots = [add_bot(database, node, name=f"bot-{number}") for number in range(3)]
    observed = [Observation(bot.id, str(bot.container_id), BotState.RUNNING, None, "127.0.0.1:20001") for bot in bots]
    with database.transaction() as session:
        observations.record_observations(session, node.id, observed, utcnow())

    now = utcnow()
    with database.transaction() as session, counted_statements(database.engine) as statements:
        observations.record_observations(session, node.id, observed, now)
        session.flush()
    assert [statement.split()[0] for statement in statements if "bots" in statement] == ["SELECT", "UPDATE"]
    with database.reading() as session:
        assert {(bot.state, bot.checked_at) for bot in session.query(Bot)} == {(BotState.RUNNING, now)}
        assert session.query(Event).count() <= len(bots)

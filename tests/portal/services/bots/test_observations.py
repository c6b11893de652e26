"""Observations of bots do not load their secrets."""

from __future__ import annotations

from portal.database import Database
from portal.models import Bot, BotState, utcnow
from portal.models.encrypted import use_keys
from portal.services.bots import observations
from portal.services.bots.observations import Observation
from tests.daemon.rows import add_bot, add_node


def test_bot_whose_secrets_cannot_be_decrypted_is_observed(database: Database) -> None:
    node = add_node(database)
    bot = add_bot(database, node)
    use_keys("another key than the one that encrypted the secrets")

    with database.transaction() as session:
        (found,) = observations.list_observable(session, node.id)
        observation = Observation(found.id, str(found.container_id), BotState.STOPPED, "exited with status 0", None)
        observations.record_observations(session, node.id, [observation], utcnow())

    with database.reading() as session:
        assert session.query(Bot.state).filter_by(id=bot.id).scalar() is BotState.STOPPED

"""Looking at bots needs none of their secrets."""

from __future__ import annotations

from portal.database import Database
from portal.models import Bot, BotState, utcnow
from portal.models.encrypted import use_keys
from portal.services.bots import observations
from portal.services.bots.observations import Observation
from tests.daemon.rows import add_bot, add_node


def test_a_bot_whose_secrets_were_written_under_a_lost_key_is_looked_at(database: Database) -> None:
    node = add_node(database)
    bot = add_bot(database, node)
    use_keys("a key that came after the one which was lost")

    with database.transaction() as session:
        (found,) = observations.list_observable(session, node.id)
        seen = Observation(found.id, str(found.container_id), BotState.STOPPED, "exited with status 0", None)
        observations.record_observations(session, node.id, [seen], utcnow())

    with database.reading() as session:
        assert session.query(Bot.state).filter_by(id=bot.id).scalar() is BotState.STOPPED

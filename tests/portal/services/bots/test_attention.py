"""A bot that needed a person is given back to updates when an operator says that it was put right."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotState, Event, User
from portal.services.bots import attention
from portal.services.errors import ConflictError, InvalidError
from tests.support.world import World

HELP = "docker start 1234"


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0; no bots yet."""
    return World(database)


def clear(world: World, bot_id: str, reason: str = "restored from the archive") -> None:
    """An operator clears the bot."""
    with world.database.transaction() as session:
        attention.clear_attention(session, session.get_one(Bot, bot_id), reason, session.get_one(User, world.root_id))


def test_a_cleared_bot_is_updated_again(world: World) -> None:
    [stuck] = world.add_bots(1, needs_attention=HELP)
    new = world.push("2.0.0")
    world.run()
    assert world.on(new) == 0

    clear(world, stuck)
    world.run()

    assert world.on(new) == 1
    with world.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.attention_cleared")).one()
        assert (event.bot_id, event.actor_id) == (stuck, world.root_id)
        assert event.data == {"reason": "restored from the archive"}


@pytest.mark.parametrize("state", [BotState.STOPPED, BotState.MISSING, BotState.UNKNOWN])
def test_a_bot_that_does_not_run_is_not_cleared(world: World, state: BotState) -> None:
    [stuck] = world.add_bots(1, needs_attention=HELP, state=state)
    with pytest.raises(ConflictError, match="Start its container first"):
        clear(world, stuck)
    with world.database.reading() as session:
        assert session.get_one(Bot, stuck).needs_attention == HELP


def test_clearing_takes_a_reason_and_happens_once(world: World) -> None:
    [stuck] = world.add_bots(1, needs_attention=HELP)
    with pytest.raises(InvalidError):
        clear(world, stuck, " ")
    clear(world, stuck)
    with pytest.raises(ConflictError, match="needs nobody"):
        clear(world, stuck)

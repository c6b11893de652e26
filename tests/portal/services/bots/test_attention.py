"""Clearing of bots that need attention."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotState, Event, User
from portal.services.bots import attention
from portal.services.errors import ConflictError, InvalidError
from tests.support.world import World

INSTRUCTIONS = "docker start 1234"


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0, without bots."""
    return World(database)


def clear(world: World, bot_id: str, reason: str = "restored from the archive") -> None:
    """Clear a bot as an operator."""
    with world.database.transaction() as session:
        actor = session.get_one(User, world.root_id)
        attention.clear_attention(session, session.get_one(Bot, bot_id), reason, actor=actor)


def test_cleared_bot_is_updated_again(world: World) -> None:
    [marked] = world.add_bots(1, needs_attention=INSTRUCTIONS)
    new = world.push("2.0.0")
    world.run()
    assert world.count_running(new) == 0

    clear(world, marked)
    world.run()

    assert world.count_running(new) == 1
    with world.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.attention_cleared")).one()
        assert (event.bot_id, event.actor_id) == (marked, world.root_id)
        assert event.data == {"reason": "restored from the archive"}


@pytest.mark.parametrize("state", [BotState.STOPPED, BotState.MISSING, BotState.UNKNOWN])
def test_bot_that_does_not_run_is_not_cleared(world: World, state: BotState) -> None:
    [marked] = world.add_bots(1, needs_attention=INSTRUCTIONS, state=state)
    with pytest.raises(ConflictError, match="Start its container first"):
        clear(world, marked)
    with world.database.reading() as session:
        assert session.get_one(Bot, marked).needs_attention == INSTRUCTIONS


def test_clearing_requires_a_reason_and_is_possible_once(world: World) -> None:
    [marked] = world.add_bots(1, needs_attention=INSTRUCTIONS)
    with pytest.raises(InvalidError):
        clear(world, marked, " ")
    clear(world, marked)
    with pytest.raises(ConflictError, match="does not need attention"):
        clear(world, marked)

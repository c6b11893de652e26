"""One action for many bots, with a refusal per bot. Used by the fleet page."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from portal.models import Bot
from portal.services.bots import bot_list
from portal.services.errors import ConflictError, InvalidError


@dataclass
class ActionResult:
    """What an action did.

    Attributes:
        done: number of bots that it changed.
        refusals: why it did not change the others, one sentence for each.
    """

    done: int = 0
    refusals: list[str] = field(default_factory=list)


def apply_to_each(session: Session, bot_ids: Collection[str], action: Callable[[Bot], bool | None]) -> ActionResult:
    """Apply an action to each bot. A refusal concerns its bot only.

    Args:
        session: a writing transaction.
        bot_ids: the bots.
        action: changes one bot; returns False if the bot is already as it should be.

    Raises:
        InvalidError: no bot is chosen, or a value of the action is invalid. Nothing is changed.
    """
    if not bot_ids:
        raise InvalidError("Choose at least one bot.", "bots")
    result = ActionResult()
    # In one order, because two operators who lock the same bots in different orders would wait for each other.
    for bot in sorted(bot_list.load_by_ids(session, bot_ids), key=lambda bot: bot.id):
        try:
            with session.begin_nested():
                changed = action(bot)
        except ConflictError as error:
            result.refusals.append(error.for_operators)
        else:
            result.done += changed is not False
    return result

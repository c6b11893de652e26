"""Labels of bots, by which operators find and choose bots. Used by the fleet page and `flotilla bots label`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotLabel, BotPhase, EventTag
from portal.rules import bot_labels
from portal.rules.bot_labels import LabelError
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor


def add_label(session: Session, bot: Bot, text: str, *, actor: Actor) -> bool:
    """Add a label to a bot. Return False if the bot has it already.

    Args:
        session: a writing transaction.
        bot: the bot.
        text: the label.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: the text is not a label.
        ConflictError: the bot was removed, or has the largest number of labels.
    """
    label = parse_label(text)
    _require_existing(session, bot)
    labels = load_labels(session, [bot.id]).get(bot.id, [])
    if label in labels:
        return False
    if len(labels) >= bot_labels.MAX_PER_BOT:
        raise ConflictError(f"{bot.name} has {bot_labels.MAX_PER_BOT} labels. Remove one first.")
    session.add(BotLabel(bot_id=bot.id, label=label))
    _record(session, bot, labels, [*labels, label], actor=actor)
    return True


def remove_label(session: Session, bot: Bot, text: str, *, actor: Actor) -> bool:
    """Remove a label from a bot. Return False if the bot does not have it. For the rest see `add_label`."""
    label = parse_label(text)
    _require_existing(session, bot)
    labels = load_labels(session, [bot.id]).get(bot.id, [])
    if label not in labels:
        return False
    session.execute(sa.delete(BotLabel).where(BotLabel.bot_id == bot.id, BotLabel.label == label))
    _record(session, bot, labels, [other for other in labels if other != label], actor=actor)
    return True


def parse_label(text: str) -> str:
    """Return the label that a user has entered.

    Raises:
        InvalidError: the text is not a label.
    """
    try:
        return bot_labels.parse_label(text)
    except LabelError as error:
        raise InvalidError(str(error), "label") from None


def list_labels(session: Session) -> Sequence[str]:
    """List the labels of all bots, in alphabetical order."""
    return session.scalars(sa.select(BotLabel.label).distinct().order_by(BotLabel.label)).all()


def load_labels(session: Session, bot_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the labels of these bots in alphabetical order, by the id of the bot."""
    return _load(session, BotLabel.bot_id.in_(bot_ids))


def load_all(session: Session) -> dict[str, list[str]]:
    """Return the labels of all bots in alphabetical order, by the id of the bot."""
    return _load(session, sa.true())


def _load(session: Session, condition: sa.ColumnElement[bool]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    query = sa.select(BotLabel.bot_id, BotLabel.label).where(condition).order_by(BotLabel.label)
    for bot_id, label in session.execute(query):
        found.setdefault(bot_id, []).append(label)
    return found


def _require_existing(session: Session, bot: Bot) -> None:
    """Lock the bot, so that two operators cannot change its labels at once, and check that it exists."""
    session.refresh(bot, with_for_update=True)
    if bot.phase is BotPhase.REMOVED:
        raise ConflictError(f"{bot.name} was removed.")


def _record(session: Session, bot: Bot, old: Sequence[str], new: Sequence[str], *, actor: Actor) -> None:
    data = {"old": ", ".join(old) or "none", "new": ", ".join(sorted(new)) or "none"}
    events.record(session, EventTag.BOT_LABELS_CHANGED, actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)

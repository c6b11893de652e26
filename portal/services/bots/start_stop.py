"""Start, stop and restart of bots on request. Used by the bot page and `flotilla bots`.

These functions write the desired state. `daemon.bots.desired_state` applies it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, BotUpdate, DesiredState, EventTag
from portal.rules.outside_text import clean_line
from portal.services import events
from portal.services.errors import ConflictError
from portal.services.events import Actor
from portal.services.orgs import orgs

MAX_REASON = 200
"""Maximum length of a reason in characters."""


class Operation(StrEnum):
    """What a user can request for a bot."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


_PHASE_REFUSALS = {
    BotPhase.CREATING: "is being set up. It can be started and stopped when it is ready.",
    BotPhase.REMOVING: "is being removed. Restore it first.",
    BotPhase.REMOVED: "was removed.",
}
_ALREADY = {
    Operation.START: "is already started.",
    Operation.STOP: "is already stopped.",
    Operation.RESTART: "is stopped. Start it instead.",
}
_EVENTS = {
    Operation.START: EventTag.BOT_START_REQUESTED,
    Operation.STOP: EventTag.BOT_STOP_REQUESTED,
    Operation.RESTART: EventTag.BOT_RESTART_REQUESTED,
}


def list_possible(session: Session, bot: Bot) -> list[Operation]:
    """List what can be requested for a bot now; nothing while `find_refusal` returns a reason."""
    return _list_by_state(bot) if find_refusal(session, bot) is None else []


def find_refusal(session: Session, bot: Bot) -> ConflictError | None:
    """Return why a bot can be neither started nor stopped now; None when it can.

    An update decides when the container runs. After a failed rollback, a start could destroy data that an operator
    still has to restore.
    """
    if bot.phase in _PHASE_REFUSALS:
        return ConflictError(f"{bot.name} {_PHASE_REFUSALS[bot.phase]}")
    if bot.needs_attention:
        return ConflictError(
            f"Your provider is investigating a problem of {bot.name}. It can be started and stopped after that.",
            for_operators=f"{bot.name} needs attention. Repair it and mark it as fixed first.",
        )
    if session.scalar(sa.select(BotUpdate.id).where(BotUpdate.bot_id == bot.id, BotUpdate.is_running())):
        return ConflictError(f"{bot.name} is being updated. Try again when the update has ended.")
    return None


def request(
    session: Session, bot: Bot, operation: Operation, *, now: datetime, actor: Actor, reason: str = ""
) -> None:
    """Record that a bot has to be started, stopped or restarted. A worker does it.

    Args:
        session: a writing transaction.
        bot: the bot.
        operation: what to do.
        now: the moment.
        actor: the user; None for the command line.
        reason: why, for everybody who can see the bot; empty for no reason.

    Raises:
        ConflictError: `find_refusal` has a reason, the bot is in the requested state already, or its organization is
            being deleted.
    """
    # The deletion of the organization takes this lock, too, and remembers the desired states.
    orgs.lock_active_org(session, bot.org_id)
    session.refresh(bot, with_for_update=True)
    refusal = find_refusal(session, bot)
    if refusal is not None:
        raise refusal
    if operation not in _list_by_state(bot):
        raise ConflictError(f"{bot.name} {_ALREADY[operation]}")
    for name, value in _values(operation, now).items():
        setattr(bot, name, value)
    note = clean_line(reason, MAX_REASON)
    data = {"note": note} if note else {}
    events.record(session, _EVENTS[operation], actor=actor, org_id=bot.org_id, bot_id=bot.id, data=data)


def _list_by_state(bot: Bot) -> list[Operation]:
    return [Operation.RESTART, Operation.STOP] if bot.desired_state is DesiredState.RUNNING else [Operation.START]


def _values(operation: Operation, now: datetime) -> dict[str, Any]:
    if operation is Operation.RESTART:
        return {"restart_requested_at": now}
    state = DesiredState.RUNNING if operation is Operation.START else DesiredState.STOPPED
    return {"desired_state": state, "restart_requested_at": None}

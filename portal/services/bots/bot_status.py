"""The status of a bot: one word or short sentence for its phase, update, request and observed state.

Used by the page of a bot and the list of an organization's bots.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from portal.models import Bot, BotPhase, BotState, BotUpdate, DesiredState, UpdateState
from portal.rules import update_phases
from portal.services.bots.bot_list import BotRow
from portal.services.bots.desired_state import JUST_STARTED

_ROUNDING = timedelta(seconds=1)
_BUSY = "running"
_PHASES = {
    BotPhase.CREATING: ("provisioning", "Being set up"),
    BotPhase.REMOVING: ("deleting", "Being removed"),
    BotPhase.REMOVED: ("deleting", "Removed"),
}
_STATES = {
    BotState.RUNNING: ("healthy", "Healthy"),
    BotState.UNHEALTHY: ("unhealthy", "Unhealthy"),
    BotState.STOPPED: ("stopped", "Stopped"),
    BotState.MISSING: ("missing", "Container missing"),
    BotState.UNKNOWN: ("unknown", "Unknown"),
}


@dataclass(frozen=True)
class BotStatus:
    """What a bot is or does at this moment.

    Attributes:
        state: the state that gives colour and shape.
        text: the words, without a full stop.
        since: since when; None where that is not known or says nothing.
        is_working: whether a worker changes the bot now, or will soon.
    """

    state: str
    text: str
    since: datetime | None = None
    is_working: bool = False


def describe(row: BotRow, now: datetime) -> BotStatus:
    """Describe a bot by what matters most: its phase, a running update, a problem, a request, its observed state."""
    bot, update = row.bot, row.update
    if bot.phase is not BotPhase.ACTIVE:
        return BotStatus(*_PHASES[bot.phase])
    if update is not None and update.state is UpdateState.RUNNING:
        return _describe_update(update)
    if bot.needs_attention is not None:
        return BotStatus("needs_attention", "Needs attention")
    return _describe_operation(bot, now) or _describe_state(bot)


def _describe_update(update: BotUpdate) -> BotStatus:
    version = update.rollout.release.version
    activity = update_phases.describe_step(update.step)
    return BotStatus(_BUSY, f"Updating to {version}: {activity}", update.started_at, is_working=True)


def _describe_operation(bot: Bot, now: datetime) -> BotStatus | None:
    """Describe a start, stop or restart that is due and not done yet."""
    if bot.restart_requested_at is not None and bot.restart_requested_at > now + _ROUNDING:
        return None  # an attempt to start it has failed, and the next one is due later
    if bot.desired_state is DesiredState.STOPPED:
        words = "Stopping" if bot.applied_state is not DesiredState.STOPPED else ""
    elif bot.desired_state is not bot.applied_state or bot.is_being_started:
        words = "Starting"
    else:
        words = "Restarting" if bot.restart_requested_at is not None else ""
    if not words:
        return None
    return BotStatus(_BUSY, f"{words}: {_describe_step(bot)}", is_working=True)


def _describe_step(bot: Bot) -> str:
    if bot.node.last_error is not None:
        return "waiting for its server, which does not answer"
    if bot.lease_owner is None:
        return "waiting for a worker"
    has_to_start = bot.desired_state is DesiredState.RUNNING and bot.state is BotState.STOPPED
    return "starting its container" if has_to_start else "stopping its container"


def _describe_state(bot: Bot) -> BotStatus:
    if bot.state is BotState.UNKNOWN and bot.state_detail == JUST_STARTED:
        return BotStatus(_BUSY, "Starting: checking its health", bot.state_since, is_working=True)
    state, words = _STATES[bot.state]
    if bot.state is BotState.STOPPED and bot.desired_state is DesiredState.RUNNING:
        words = "Stopped unexpectedly"
    return BotStatus(state, words, bot.state_since)

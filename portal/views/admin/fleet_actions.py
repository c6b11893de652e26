"""Actions for the bots that are selected on the fleet page. Used by operators."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.models import Audience, Bot, Channel, User, utcnow
from portal.queue import JobName, updates_queue_name
from portal.rules.strategies import StrategyName
from portal.services.bots import bot_list, channels, fleet_actions, holds, labels, start_stop
from portal.services.bots.fleet_actions import ActionResult
from portal.services.bots.start_stop import Operation
from portal.services.errors import InvalidError
from portal.services.releases import releases
from portal.views.support import authorization, fleet_page
from portal.web import htmx
from portal.web.unit_of_work import enqueue_after_commit, session

pages = Blueprint("admin_fleet_actions", __name__, url_prefix="/admin/fleet/actions")

_DONE = {
    "restart": "Restarting {bots}.",
    "channel": "{bots} moved.",
    "hold": "Updates of {bots} are on hold.",
    "end_hold": "Updates of {bots} are no longer on hold.",
    "label": "Label added to {bots}.",
    "unlabel": "Label removed from {bots}.",
}
_SHOWN_REFUSALS = 5


@pages.post("")
def act() -> Response:
    """Apply the chosen action to the selected bots. The query string contains the filters of the page."""
    operator = authorization.require_operator()
    bot_ids = request.form.getlist("bots")[:1000]
    action = request.form.get("action", "")
    try:
        if action == "roll_out":
            return htmx.see_other(_find_rollout_form(bot_ids))
        result = fleet_actions.apply_to_each(session(), bot_ids, _choose_action(action, operator))
    except InvalidError as error:
        session().rollback()
        return fleet_page.render(
            422, refusal=error.for_operators, selected=frozenset(bot_ids), entries=request.form.to_dict()
        )
    _flash_result(action, result)
    return htmx.see_other(fleet_page.build_url(request.args.get("page", 1, type=int)))


def _choose_action(name: str, operator: User) -> Callable[[Bot], bool | None]:
    now, form = utcnow(), request.form
    match name:
        case "restart":
            return lambda bot: _restart(bot, operator)
        case "channel":
            channel = _parse_channel(form.get("to_channel", ""))
            return lambda bot: channels.move_bot(session(), bot, channel, now=now, actor=operator)
        case "hold":
            until, reason = _parse_day(form.get("until", "")), form.get("reason", "")
            return lambda bot: holds.hold_updates(session(), bot, until, reason, now=now, actor=operator)
        case "end_hold":
            return lambda bot: holds.end_hold(session(), bot, actor=operator)
        case "label":
            label = labels.parse_label(form.get("with_label", ""))
            return lambda bot: labels.add_label(session(), bot, label, actor=operator)
        case "unlabel":
            label = labels.parse_label(form.get("with_label", ""))
            return lambda bot: labels.remove_label(session(), bot, label, actor=operator)
    raise InvalidError("Choose what to do with the selected bots.", "action")


def _restart(bot: Bot, operator: User) -> None:
    start_stop.request(session(), bot, Operation.RESTART, now=utcnow(), actor=operator)
    enqueue_after_commit(JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))


def _find_rollout_form(bot_ids: list[str]) -> str:
    """Return the URL of the form of a new rollout of these bots to the release of the first bot's image."""
    found = bot_list.load_by_ids(session(), bot_ids)
    if not found:
        raise InvalidError("Choose at least one bot.", "bots")
    images = {bot.image for bot in found}
    if len(images) > 1:
        raise InvalidError(
            f"The selected bots follow {len(images)} images. Choose bots of one image for a rollout.", "bots"
        )
    release = releases.find_target(session(), images.pop())
    if release is None:
        raise InvalidError("There is no release to roll out: none is known, or the newest is quarantined.", "bots")
    return url_for(
        "admin_new_rollout.form",
        release=release.id,
        audience=Audience.NAMED,
        strategy=StrategyName.ROLLING_WAVE,
        bots=[bot.id for bot in found],
    )


def _parse_channel(text: str) -> Channel:
    try:
        return Channel(text)
    except ValueError:
        raise InvalidError("Choose a channel.", "to_channel") from None


def _parse_day(text: str) -> datetime:
    """Return the beginning of a day in UTC."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise InvalidError("Choose a date.", "until") from None


def _flash_result(action: str, result: ActionResult) -> None:
    if result.done or not result.refusals:
        bots = "1 bot" if result.done == 1 else f"{result.done} bots"
        flash(_DONE[action].format(bots=bots), "info")
    if result.refusals:
        shown = " ".join(result.refusals[:_SHOWN_REFUSALS])
        more = len(result.refusals) - _SHOWN_REFUSALS
        flash(f"{shown} {more} more were refused." if more > 0 else shown, "error")

"""Jinja filters and globals: times, digests, plurals. Used by all templates of the portal."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from flask import Flask
from jinja2 import StrictUndefined

from portal import policy
from portal.models import Bot, BotUpdate, Org, utcnow
from portal.rules import email_addresses, faults, roles, update_phases
from portal.rules.strategies import STRATEGIES
from portal.services.bots import bot_status
from portal.services.bots.bot_list import BotRow
from portal.services.bots.bot_status import BotStatus
from portal.services.orgs import orgs, sync_sentences, sync_status
from portal.services.rollouts import timings
from portal.services.rollouts.timings import PhaseDuration
from portal.settings import Settings
from portal.web import htmx
from portal.web.session_cookie import current_visitor, is_visitor_operator
from portal.web.static_files import asset, vendor
from portal.web.unit_of_work import session

_UNITS = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))
_MINUTE = timedelta(minutes=1)


def init_app(app: Flask, settings: Settings) -> None:
    """Register filters and globals, and make Jinja raise an error for an unknown name instead of showing nothing."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        ago=ago,
        bot_status=describe_bot,
        day_and_time=day_and_time,
        downtime=timings.measure_downtime,
        duration=duration,
        elapsed=elapsed,
        exact=exact,
        failure_reason=failure_reason,
        least_advanced=sync_status.find_least_advanced,
        masked=email_addresses.mask,
        pending_bots=sync_sentences.count_pending,
        percent=percent,
        phases=list_phases,
        plural=plural,
        short=short_digest,
        state_reason=state_reason,
        steps=timings.list_step_durations,
        steps_done=update_phases.count_done,
        strategy_label=strategy_label,
        sync_label=sync_sentences.label,
        sync_reason=sync_sentences.explain,
        upcoming=upcoming,
        words=words,
    )
    app.jinja_env.globals.update(
        asset=asset,
        vendor=vendor,
        htmx_configuration=htmx.CONFIGURATION,
        product_name=settings.product_name,
        billing_url=settings.billing_url,
        bot_url=settings.bot_url,
        can=policy.can,
        my_orgs=my_orgs,
        update_steps=update_phases.STEPS,
        utcnow=utcnow,
        Action=policy.Action,
        ROLES=roles.ROLES,
    )

    @app.context_processor
    def _add_visitor() -> dict[str, Any]:
        return {"visitor": current_visitor()}


def my_orgs() -> list[Org]:
    """Return the organizations of the visitor, for the organization switcher."""
    visitor = current_visitor()
    return orgs.list_for_user(session(), visitor.user) if visitor else []


def duration(span: timedelta | float) -> str:
    """Format how long something took, in its two largest units: `1 min 12 s`.

    Args:
        span: a time span, or a number of seconds.
    """
    seconds = round(span.total_seconds() if isinstance(span, timedelta) else span)
    for (size, unit), (smaller_size, smaller_unit) in pairwise(_UNITS):
        if seconds >= size:
            rest = seconds % size // smaller_size
            return _quantity(seconds // size, unit) + (f" {_quantity(rest, smaller_unit)}" if rest else "")
    return f"{seconds} s"


def ago(moment: datetime) -> str:
    """Format a moment relative to now: `5 min ago`, `in 2 h`."""
    passed = utcnow() - moment
    if passed < timedelta():
        return upcoming(moment)
    # Minutes are the smallest unit, because live parts of a page are sent again whenever their text changes.
    return "just now" if passed < _MINUTE else f"{_largest_unit(passed)} ago"


def upcoming(moment: datetime) -> str:
    """Format a moment in the future: `in 2 h`; `now` if it has passed or is less than a minute away."""
    ahead = moment - utcnow()
    if ahead < _MINUTE:
        return "now"
    # Rounded, because a moment that was set to two days from now must not read "in 1 day" a second later.
    return f"in {_largest_unit(_MINUTE * round(ahead / _MINUTE), rounded=True)}"


def elapsed(since: datetime) -> str:
    """Format how long ago something started: `10 min`."""
    passed = utcnow() - since
    return "less than 1 min" if passed < _MINUTE else _largest_unit(passed)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Format a number with its noun: `1 bot`, `3 bots`. `nouns` is the plural if it does not end in `s`."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def percent(share: float) -> str:
    """Format a percentage. Only what is complete reads `100 %`."""
    return "100 %" if share >= 100 else f"{min(share, 99.99):.{2 if share >= 99 else 1}f} %"


def _largest_unit(span: timedelta, *, rounded: bool = False) -> str:
    seconds = span.total_seconds()
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return _quantity(round(seconds / size) if rounded else int(seconds // size), unit)


def _quantity(number: int, unit: str) -> str:
    return plural(number, unit) if unit == "day" else f"{number} {unit}"


def exact(moment: datetime) -> str:
    """Format a moment to the second, in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def day_and_time(moment: datetime) -> str:
    """Format a moment of the next days: `tomorrow at 05:00 UTC`."""
    days = (moment.date() - utcnow().date()).days
    day = {0: "today", 1: "tomorrow"}.get(days, f"{moment:%Y-%m-%d}")
    return f"{day} at {moment:%H:%M} UTC"


def describe_bot(row: BotRow) -> BotStatus:
    """Return the status of a bot at this moment."""
    return bot_status.describe(row, utcnow())


def list_phases(update: BotUpdate) -> list[PhaseDuration]:
    """Return the durations of the phases of an update until this moment."""
    return timings.list_phase_durations(update, utcnow())


def short_digest(digest: str) -> str:
    """Shorten a digest to its first twelve digits."""
    return digest.removeprefix("sha256:")[:12]


def words(name: str) -> str:
    """Format the name of a state as words: `rolled_back` becomes `rolled back`."""
    return name.replace("_", " ")


def strategy_label(name: str) -> str:
    """Return the short label of a rollout strategy: `Rolling`. The full label continues after a colon."""
    return STRATEGIES[name].label.partition(":")[0]


def failure_reason(update: BotUpdate) -> str:
    """Return why an update failed: the error for operators, a sentence for customers; empty without an error."""
    if not update.error:
        return ""
    if is_visitor_operator():
        return update.error
    return faults.explain_failed_update(update.state, transient=update.transient)


def state_reason(bot: Bot) -> str:
    """Return why a bot is in its state: what was observed for operators, a sentence for customers."""
    if not bot.state_detail:
        return ""
    return bot.state_detail if is_visitor_operator() else faults.explain_bot_state(bot.state)

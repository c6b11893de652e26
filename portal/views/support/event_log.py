"""A page of the log with its filters, as an address carries them; what makes no sense narrows nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

from flask import Response, request

from portal.services.audit.log import EventFilter, EventPage
from portal.web import htmx


def render_event_log(template: str, read: Callable[[EventFilter, int | None], EventPage], **context: Any) -> Response:
    """The page, or its log alone.

    Args:
        template: of the page.
        read: gives the events that fit a filter, beginning before one of them.
        context: what the template needs besides.
    """
    wanted, before = _wanted(), request.args.get("before", type=_event_id)
    place = request.view_args or {}
    return htmx.page(
        template,
        parts={"log": "support/_event_log.html"},
        wanted=wanted,
        listing=read(wanted, before),
        paged=before is not None,
        place=place,
        narrowed={**place, **{name: value for name, value in vars(wanted).items() if value}},
        **context,
    )


def _wanted() -> EventFilter:
    return EventFilter(
        about=request.args.get("about", "").strip(),
        person=request.args.get("person", "").strip(),
        org=request.args.get("org", "").strip(),
        since=_day("since"),
        until=_day("until"),
    )


def _event_id(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError(text)  # more than a column of numbers can hold
    return number


def _day(name: str) -> date | None:
    with suppress(ValueError):
        return date.fromisoformat(request.args.get(name, ""))
    return None

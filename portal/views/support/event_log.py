"""Pages with the event log. The query string contains the filters. Used by organization and admin pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any

from flask import Response, request

from portal.services.audit.event_search import EventFilter
from portal.services.audit.log import EventPage
from portal.web import htmx


def render_event_log(template: str, load: Callable[[EventFilter, int | None], EventPage], **context: Any) -> Response:
    """Render a page with the event log, or the log alone for htmx.

    Args:
        template: the template of the page.
        load: loads the matching events that are older than an event id; the newest ones if the id is None.
        context: further context of the template.
    """
    event_filter, before = _read_filter(), request.args.get("before", type=_parse_event_id)
    url_args = request.view_args or {}
    return htmx.page(
        template,
        parts={"log": "support/_event_log.html"},
        event_filter=event_filter,
        listing=load(event_filter, before),
        paged=before is not None,
        url_args=url_args,
        filtered_url_args={**url_args, **{name: value for name, value in vars(event_filter).items() if value}},
        **context,
    )


def _read_filter() -> EventFilter:
    """Read the filter of the query string. Invalid values are ignored."""
    return EventFilter(
        about=request.args.get("about", "").strip(),
        person=request.args.get("person", "").strip(),
        org=request.args.get("org", "").strip(),
        since=_read_day("since"),
        until=_read_day("until"),
    )


def _parse_event_id(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError(text)  # out of range for a BIGINT column
    return number


def _read_day(name: str) -> date | None:
    with suppress(ValueError):
        return date.fromisoformat(request.args.get(name, ""))
    return None

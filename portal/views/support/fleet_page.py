"""The fleet page: filters of the query string, lists to choose from, rows. Used by the views of the fleet."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from flask import Response, request, url_for

from portal.models import Channel, utcnow
from portal.services.bots import fleet_search, labels, saved_views
from portal.services.bots.fleet_search import BotCondition, FleetFilter, FleetOrder
from portal.services.releases import releases
from portal.web import htmx
from portal.web.unit_of_work import session

CONDITION_LABELS = {
    BotCondition.ALL: "Any condition",
    BotCondition.HEALTHY: "Healthy",
    BotCondition.OUTDATED: "Update available",
    BotCondition.UPDATING: "Updating now",
    BotCondition.FAILED: "Failed in 24 h",
    BotCondition.UNHEALTHY: "Not healthy",
    BotCondition.STOPPED: "Stopped",
    BotCondition.ATTENTION: "Needs attention",
    BotCondition.HELD: "Updates on hold",
    BotCondition.CREATING: "Being created",
    BotCondition.REMOVING: "Being removed",
}
_COLUMNS = {
    FleetOrder.NAME: "Bot",
    FleetOrder.ORG: "Organization",
    FleetOrder.STATE: "Health",
    FleetOrder.VERSION: "Version",
    FleetOrder.CHANNEL: "Channel",
    FleetOrder.NODE: "Node",
    FleetOrder.UPDATE: "Last update",
}
_NEWEST_FIRST = {FleetOrder.VERSION, FleetOrder.UPDATE}
"""Columns whose first click shows the newest first."""

Choice = TypeVar("Choice", bound=StrEnum)


def read_filter() -> FleetFilter:
    """Read filters and order from the query string. Unknown values are ignored."""
    order = request.args.get("sort", "")
    return FleetFilter(
        text=_read("q"),
        show=_read_choice("show", BotCondition) or BotCondition.ALL,
        image=_read("image"),
        release=_read("release"),
        channel=_read_choice("channel", Channel),
        node=_read("node"),
        org=_read("org"),
        label=_read("label"),
        order=_parse(order.removeprefix("-"), FleetOrder) or FleetOrder.ORG,
        descending=order.startswith("-"),
    )


def build_url(page: int = 1) -> str:
    """Return the address of the page with the filters and the order of the query string."""
    args: dict[str, Any] = {**read_url_args(), **({"page": page} if page > 1 else {})}
    return url_for("admin_fleet.index", **args)


def read_url_args() -> dict[str, str]:
    """Return the filters and the order of the query string as arguments of a URL, without defaults."""
    return _build_url_args(read_filter())


def render(status: int = 200, **context: Any) -> Response:
    """Render the page, or the list alone for htmx.

    Args:
        status: the status of the answer.
        context: the entries and the error of an action that was refused.
    """
    fleet_filter, now = read_filter(), utcnow()
    listing = fleet_search.search_bots(session(), fleet_filter, now, request.args.get("page", 1, type=int))
    response = htmx.page(
        "admin/fleet.html",
        parts={"bots": "admin/_bots.html"},
        listing=listing,
        labels=labels.load_labels(session(), [line.bot.id for line in listing.lines]),
        fleet_filter=fleet_filter,
        url_args=_build_url_args(fleet_filter),
        columns=_describe_columns(fleet_filter),
        release=_find_release(fleet_filter),
        conditions=CONDITION_LABELS,
        channels=list(Channel),
        nodes=fleet_search.list_nodes(session()),
        all_labels=labels.list_labels(session()),
        views=saved_views.list_views(session()),
        saved_query=saved_views.encode(read_url_args()),
        entries=context.pop("entries", {}),
        selected=context.pop("selected", frozenset()),
        refusal=context.pop("refusal", ""),
        **context,
    )
    response.status_code = status
    if htmx.is_fragment():
        response.headers["HX-Replace-Url"] = build_url()
    return response


def _build_url_args(fleet_filter: FleetFilter) -> dict[str, str]:
    order = f"{'-' if fleet_filter.descending else ''}{fleet_filter.order}"
    args = {
        "q": fleet_filter.text,
        "show": "" if fleet_filter.show is BotCondition.ALL else fleet_filter.show,
        "image": fleet_filter.image,
        "release": fleet_filter.release,
        "channel": fleet_filter.channel or "",
        "node": fleet_filter.node,
        "org": fleet_filter.org,
        "label": fleet_filter.label,
        "sort": "" if order == FleetOrder.ORG else order,
    }
    return {name: str(value) for name, value in args.items() if value}


def _describe_columns(fleet_filter: FleetFilter) -> list[tuple[str, str, str]]:
    """List label, `sort` of the link and `aria-sort` of each column."""
    return [_describe_column(fleet_filter, order, label) for order, label in _COLUMNS.items()]


def _describe_column(fleet_filter: FleetFilter, order: FleetOrder, label: str) -> tuple[str, str, str]:
    if order is not fleet_filter.order:
        return label, f"-{order}" if order in _NEWEST_FIRST else order, ""
    if fleet_filter.descending:
        return label, order, "descending"
    return label, f"-{order}", "ascending"


def _find_release(fleet_filter: FleetFilter) -> str:
    """Return the version of the release by which the list is filtered."""
    return releases.find_version(session(), fleet_filter.release) if fleet_filter.release else ""


def _read(name: str) -> str:
    return request.args.get(name, "").strip()[:300]


def _read_choice(name: str, kind: type[Choice]) -> Choice | None:
    return _parse(_read(name), kind)


def _parse(text: str, kind: type[Choice]) -> Choice | None:
    return kind(text) if text in set(kind) else None

"""Responses for htmx: pages with live parts, redirects, toasts and events. Used by views.

Pages and fragments share one URL: a request by htmx returns a part of the page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flask import Response, get_flashed_messages, make_response, redirect, render_template, request
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

CONFIGURATION = json.dumps(
    {
        "allowEval": False,
        "allowScriptTags": False,
        "includeIndicatorStyles": False,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "disableInheritance": True,
        "selfRequestsOnly": True,
        "timeout": 15000,
        # Without our script, which shows dialogs, links that open a dialog open a page instead.
        "disableSelector": "[hx-disable], html:not([data-dialogs]) [hx-target='#dialog']",
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            # 409 and 422 contain the form with its errors, or the current state of what the form was about.
            {"code": "409|422", "swap": True},
            {"code": "[45]..", "swap": False, "error": True},
        ],
    }
)
"""The content of the meta tag `htmx-config`."""

_VERSION_PLACEHOLDER = "version-of-this-part"
_SEPARATOR = "_"
"""Between the version of the data and the hash of the content."""


def is_fragment() -> bool:
    """Return whether the request was sent by htmx, which expects a part of the page."""
    return request.headers.get("HX-Request") == "true"


def is_automatic_refresh() -> bool:
    """Return whether htmx refreshes a part of a page automatically, without an action of the user."""
    return is_fragment() and "part" in request.args


def is_unchanged(data_version: str) -> bool:
    """Return whether htmx polls a live part that shows this version of the data. The response is `unchanged()`."""
    known, separator, _content = request.args.get("version", "").rpartition(_SEPARATOR)
    return is_fragment() and bool(separator) and known == data_version


def unchanged() -> Response:
    """Return the response to a poll of a part that has not changed."""
    return Response(status=204)


def page(
    template: str,
    *,
    live: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
    data_version: str = "",
    **context: Any,
) -> Response:
    """Render a page, or the part of it that htmx requests by `?part=`.

    Live parts poll. Each contains a hash of its content, which its template writes as `version`, and sends it with
    the next request. The response is 204 if the content is the same; otherwise it is the part and the event
    `<part>:changed`, on which other parts can refresh. A live part stops polling when its template has no trigger.

    Args:
        template: the template of the whole page, which gets the rendered live parts as `live`.
        live: templates of the live parts, by name.
        parts: templates of the other parts, by name.
        data_version: version of the data of the live parts, for views that call `is_unchanged` first.
        context: values for all templates.
    """
    live, parts = live or {}, parts or {}
    requested = request.args.get("part", "") if is_fragment() else ""
    if requested in parts:
        return make_response(render_template(parts[requested], **context))
    if requested in live:
        html, version = _render_versioned(live[requested], data_version, context)
        known = request.args.get("version", "")
        if known == version:
            return Response(status=204)
        if _content_of(known) == _content_of(version):
            return Response(html)  # only the version of the data is new
        return Response(html, headers={"HX-Trigger": _encode_events({f"{requested}:changed": True})})
    rendered = {name: _render_versioned(part, data_version, context)[0] for name, part in live.items()}
    return make_response(render_template(template, live=rendered, **context))


def see_other(url: str) -> BaseResponse:
    """Redirect to a page after a form was submitted."""
    return redirect(url, code=303)


def go_to(url: str) -> BaseResponse:
    """Redirect to another page, also for htmx, which would otherwise insert that page into the current one."""
    if is_fragment():
        return Response(status=204, headers={"HX-Redirect": url})
    return see_other(url)


def error_toast(message: str, status: int) -> Response:
    """Return an error for htmx, which shows it as a toast and leaves the page unchanged."""
    return Response(
        status=status,
        headers={"HX-Reswap": "none", "HX-Trigger": _encode_events({"toast": {"kind": "error", "text": message}})},
    )


def announce(response: Response, *names: str) -> Response:
    """Add events to a response, which htmx triggers on the page. Parts of the page can listen to them."""
    triggers = json.loads(response.headers.get("HX-Trigger", "{}"))
    response.headers["HX-Trigger"] = _encode_events({**triggers, **dict.fromkeys(names, True)})
    return response


def carry_flashes(response: Response) -> Response:
    """Add flashed messages as a toast to fragments. Pages show flashed messages in their template."""
    if not is_fragment() or response.status_code != 200:
        return response
    messages: list[Any] = list(get_flashed_messages(with_categories=True))
    if messages:
        kind, text = messages[-1]
        triggers = json.loads(response.headers.get("HX-Trigger", "{}"))
        response.headers["HX-Trigger"] = _encode_events({**triggers, "toast": {"kind": kind, "text": text}})
    return response


def _encode_events(events: dict[str, Any]) -> str:
    # `json.dumps` returns ASCII, which headers require.
    return json.dumps(events)


def _content_of(version: str) -> str:
    return version.rpartition(_SEPARATOR)[2]


def _render_versioned(template: str, data_version: str, context: dict[str, Any]) -> tuple[Markup, str]:
    html = render_template(template, version=_VERSION_PLACEHOLDER, **context)
    # The CSRF token differs in every request and must not change the version.
    content = hashlib.sha256(html.replace(generate_csrf(), "").encode()).hexdigest()[:16]
    version = f"{data_version}{_SEPARATOR}{content}" if data_version else content
    return Markup(html.replace(_VERSION_PLACEHOLDER, version)), version  # noqa: S704 - the template has escaped the content

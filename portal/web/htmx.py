"""How pages and fragments share one address: every URL is a page, htmx only asks for less of it."""

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
        # What opens in the dialog is a page like any other where our script, which shows dialogs, was not loaded.
        "disableSelector": "[hx-disable], html:not([data-dialogs]) [hx-target='#dialog']",
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            # Forms with errors, and what a form was about as it is now.
            {"code": "409|422", "swap": True},
            {"code": "[45]..", "swap": False, "error": True},
        ],
    }
)
"""Content of the meta tag `htmx-config`."""

_VERSION = "version-of-this-part"


def is_fragment() -> bool:
    """Whether htmx asks for a part of the page."""
    return request.headers.get("HX-Request") == "true"


def is_part() -> bool:
    """Whether htmx renews a part of a page, as live parts and those that follow them do with nobody at the keys."""
    return is_fragment() and "part" in request.args


def page(
    template: str, *, live: Mapping[str, str] | None = None, parts: Mapping[str, str] | None = None, **context: Any
) -> Response:
    """The page, or the one part of it that htmx asks for by `?part=`.

    Live parts poll. Each carries the hash of what it shows, in the place where its template writes `version`, and
    sends that back: nothing new is answered by 204, news by the part itself and the event `<part>:changed`, which
    the parts that follow listen to. A live part whose template has no trigger any more stops polling.

    Args:
        template: of the whole page; it finds the live parts, rendered, in `live`.
        live: templates of the parts that poll, by name.
        parts: templates of its other parts, by name.
        context: what all of them need.
    """
    live, parts = live or {}, parts or {}
    wanted = request.args.get("part", "") if is_fragment() else ""
    if wanted in parts:
        return make_response(render_template(parts[wanted], **context))
    if wanted in live:
        html, version = _versioned(live[wanted], context)
        if request.args.get("version") == version:
            return Response(status=204)
        return Response(html, headers={"HX-Trigger": _events({f"{wanted}:changed": True})})
    rendered = {name: _versioned(part, context)[0] for name, part in live.items()}
    return make_response(render_template(template, live=rendered, **context))


def see_other(url: str) -> BaseResponse:
    """Answer a form: go there and look."""
    return redirect(url, code=303)


def go_to(url: str) -> BaseResponse:
    """Answer a form that leads to another page: htmx must leave this one instead of swapping a part of it."""
    if is_fragment():
        return Response(status=204, headers={"HX-Redirect": url})
    return see_other(url)


def refusal(message: str, status: int) -> Response:
    """An error for htmx: a message for the corner of the page, which stays as it is."""
    return Response(
        status=status,
        headers={"HX-Reswap": "none", "HX-Trigger": _events({"toast": {"kind": "error", "text": message}})},
    )


def announce(response: Response, *names: str) -> Response:
    """Tell the page that something happened, for parts of it that listen; htmx alone reads it."""
    known = json.loads(response.headers.get("HX-Trigger", "{}"))
    response.headers["HX-Trigger"] = _events({**known, **dict.fromkeys(names, True)})
    return response


def carry_flashes(response: Response) -> Response:
    """Show messages of the last form beside a fragment too; a page shows them by itself."""
    if not is_fragment() or response.status_code != 200:
        return response
    messages: list[Any] = list(get_flashed_messages(with_categories=True))
    if messages:
        kind, text = messages[-1]
        known = json.loads(response.headers.get("HX-Trigger", "{}"))
        response.headers["HX-Trigger"] = _events({**known, "toast": {"kind": kind, "text": text}})
    return response


def _events(events: dict[str, Any]) -> str:
    # ASCII only: headers carry nothing else.
    return json.dumps(events)


def _versioned(template: str, context: dict[str, Any]) -> tuple[Markup, str]:
    html = render_template(template, version=_VERSION, **context)
    # The token in forms is another one at every request; it is not news.
    version = hashlib.sha256(html.replace(generate_csrf(), "").encode()).hexdigest()[:16]
    return Markup(html.replace(_VERSION, version)), version  # noqa: S704 - the template has escaped it

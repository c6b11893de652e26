"""How pages and fragments share one address: every URL is a page, htmx only asks for less of it."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, get_flashed_messages, make_response, redirect, render_template, request
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


def is_fragment() -> bool:
    """Whether htmx asks for a part of the page."""
    return request.headers.get("HX-Request") == "true"


def is_poll() -> bool:
    """Whether a live part asks for news by itself: it says which version it shows. That is nobody using the page."""
    return is_fragment() and "version" in request.args


def page_or_part(page: str, parts: dict[str, str], **context: Any) -> str:
    """The page, or the part of it that htmx asks for by `?part=`.

    Args:
        page: template of the whole page.
        parts: templates of its parts, by name.
        context: what either needs.
    """
    part = parts.get(request.args.get("part", "")) if is_fragment() else None
    return render_template(part or page, **context)


def live_part(template: str, version: str, *, changed: str, **context: Any) -> Response:
    """A part that polls: nothing while it still shows `version`, else itself.

    Args:
        template: of the part; its final state must carry no trigger, so that polling ends.
        version: changes whenever the part would look different.
        changed: event for the parts of the page that follow this one.
        context: what the template needs.
    """
    if request.args.get("version") == version:
        return Response(status=204)
    response = make_response(render_template(template, version=version, **context))
    response.headers["HX-Trigger"] = _events({changed: True})
    return response


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

"""The access log: one line per request with its route. Used by `create_app`.

The path itself is not logged, because it may contain tokens.
"""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

logger = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    """Log every request of `app` with its status and duration."""
    app.before_request(_start_timer)
    app.after_request(_log)


def _start_timer() -> None:
    g.request_started = time.monotonic()


def _log(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "(no such route)"
    milliseconds = (time.monotonic() - g.request_started) * 1000 if "request_started" in g else 0
    logger.info("%s %s %d %.0f ms", request.method, route, response.status_code, milliseconds)
    return response

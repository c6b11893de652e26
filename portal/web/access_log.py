"""One line of log for every request: the route, never the path, for paths may hold what is nobody's business."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

logger = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    """Log every request of `app` with its status and how long it took."""
    app.before_request(_begin)
    app.after_request(_log)


def _begin() -> None:
    g.began = time.monotonic()


def _log(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "(no such route)"
    took = (time.monotonic() - g.began) * 1000 if "began" in g else 0
    logger.info("%s %s %d %.0f ms", request.method, route, response.status_code, took)
    return response

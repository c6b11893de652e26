"""Pages with the log of a bot: live, searched, and as a download. Used by people of its organization and operators.

A worker reads the log; see `portal.live_readings`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, current_app, request, url_for
from redis import Redis
from werkzeug.wrappers import Response as BaseResponse

from portal import live_readings
from portal.live_readings import Reading
from portal.models import Bot, utcnow
from portal.rules import log_text
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("bot_logs", __name__, url_prefix="/o/<slug>/bots/<bot_id>/logs")

_WAIT_SECONDS = 1.5
_WAIT_FOR_DOWNLOAD_SECONDS = 8.0
_OUTDATED = timedelta(seconds=15)
"""An older reading means that no worker reads any more."""


@pages.get("")
def index(slug: str, bot_id: str) -> BaseResponse:
    """Show the latest lines of the log, or those that contain a text. The part with the lines refreshes itself."""
    access, bot = authorization.require_logs(slug, bot_id)
    text = request.args.get("q", "").strip()[:100]
    reading = Reading.LONG_LOG if text else Reading.LOG
    log = _load(bot, reading)
    return htmx.page(
        "org/bot/logs.html",
        live={"lines": "org/bot/_log_lines.html"},
        access=access,
        org=access.org,
        bot=bot,
        text=text,
        paused="paused" in request.args,
        log=log,
        found=log_text.select(log["lines"], text) if log else None,
        outdated=log is not None and utcnow() - log["at"] > _OUTDATED,
    )


@pages.get("/download")
def download(slug: str, bot_id: str) -> BaseResponse:
    """Send many lines of the log as a text file; without a log, show the page, which says why and tries again."""
    _, bot = authorization.require_logs(slug, bot_id)
    name, moment = bot.subdomain, utcnow()
    log = _wait(bot, Reading.LONG_LOG, _WAIT_FOR_DOWNLOAD_SECONDS)
    if log is None or log["error"]:
        return htmx.see_other(url_for("bot_logs.index", slug=slug, bot_id=bot_id))
    file_name = f"{name}-{moment:%Y%m%d-%H%M%S}.log"
    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    return Response(log_text.format_lines(log["lines"]), mimetype="text/plain", headers=headers)


def _load(bot: Bot, reading: Reading) -> dict[str, Any] | None:
    """Return the latest reading of the log, and request the next one. Only a page without any waits for it."""
    redis: Redis = current_app.extensions["redis"]
    log = live_readings.load(redis, reading, bot.id)
    if "paused" in request.args and log is not None:
        return log
    live_readings.request(redis, reading, bot.id)
    return log if log is not None or htmx.is_fragment() else _wait(bot, reading, _WAIT_SECONDS)


def _wait(bot: Bot, reading: Reading, seconds: float) -> dict[str, Any] | None:
    bot_id = bot.id
    # Nothing slow happens inside a transaction. The request has written nothing.
    session().rollback()
    return live_readings.wait(current_app.extensions["redis"], reading, bot_id, seconds)

"""Errors as people see them: a page, or for htmx a message in the corner; never a trace, always what to do."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, flash, make_response, render_template, request, url_for
from flask_limiter import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.wrappers import Response as BaseResponse

from portal.services.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, ServiceError
from portal.settings import Settings
from portal.web import htmx
from portal.web.extensions import limiter

logger = logging.getLogger(__name__)

Answer = BaseResponse | tuple[str, int]

_STATUS: dict[type[ServiceError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConflictError: HTTPStatus.CONFLICT,
}
_WORDS = {
    404: "There is nothing here, or nothing that you may see.",
    405: "This address only answers to the portal's own forms.",
    413: "That is too much at once.",
}


class SignInRequired(Exception):
    """Nobody is signed in, and the page needs somebody."""


class MembershipEnded(Exception):
    """Whoever asks for an organization's page belonged to it once.

    Args:
        org_name: what people call it.
    """

    def __init__(self, org_name: str) -> None:
        super().__init__(org_name)
        self.org_name = org_name


def init_app(app: Flask) -> None:
    """Register how each kind of error is answered."""
    app.register_error_handler(SignInRequired, _sign_in)
    app.register_error_handler(MembershipEnded, _to_the_switcher)
    app.register_error_handler(ServiceError, _service_error)
    app.register_error_handler(SecurityError, _foreign_host)
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(RateLimitExceeded, _too_many)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _bug)


def answer(message: str, status: int) -> Answer:
    """The error as a page or as htmx's message."""
    if htmx.is_fragment():
        return htmx.refusal(message, status)
    title = HTTPStatus(status).phrase
    return render_template("error.html", message=message, title=title, status=status), status


def _sign_in(_error: SignInRequired) -> Answer:
    if htmx.is_fragment():
        # Back to the page the fragment is part of, whose address htmx tells.
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login", next=_page_of_fragment())})
    page = request.full_path.rstrip("?")
    wanted = page if request.method == "GET" and page != "/" else None
    return htmx.see_other(url_for("auth.login", next=wanted))


def _page_of_fragment() -> str | None:
    try:
        current = urlsplit(request.headers.get("HX-Current-URL", "/"))
    except ValueError:  # no browser sends that
        return None
    return current.path + (f"?{current.query}" if current.query else "")


def _to_the_switcher(ended: MembershipEnded) -> Answer:
    flash(f"You do not belong to {ended.org_name} any more.", "info")
    return htmx.go_to(url_for("orgs.index"))


def _service_error(error: ServiceError) -> Answer:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    return answer(str(error), status)


def _foreign_host(_error: SecurityError) -> Answer:
    settings: Settings = current_app.extensions["settings"]
    # Without a trusted host there are no addresses to build a page with.
    text = f"This portal only answers at {settings.base_url} (its setting BASE_URL).\n"
    return Response(text, 400, mimetype="text/plain")


def _stale_form(_error: CSRFError) -> Answer:
    return answer("This form was opened before you signed in or too long ago. Go back, reload it and try again.", 400)


def _too_many(_error: RateLimitExceeded) -> Answer:
    limit = limiter.current_limit
    seconds = max(1, int(limit.reset_at - time.time())) if limit else 900
    response = make_response(answer(f"Too many attempts. Try again in {_span(seconds)}.", 429))
    response.headers["Retry-After"] = str(seconds)
    return response


def _span(seconds: int) -> str:
    count, unit = (-(-seconds // 60), "minute") if seconds <= 5400 else (-(-seconds // 3600), "hour")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _http_error(error: HTTPException) -> Answer | HTTPException:
    if error.code is None or error.code < 400:
        return error
    return answer(_WORDS.get(error.code) or str(error.description), error.code)


def _bug(error: Exception) -> Any:
    logger.error("error while answering %s %s", request.method, request.endpoint, exc_info=error)
    if current_app.testing:
        raise error
    return answer("Something went wrong on our side. It has been logged; try again in a moment.", 500)

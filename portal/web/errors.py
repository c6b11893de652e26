"""Error handlers: an error page, or a toast for htmx requests. Used by `create_app`.

Messages say what happened and what to do. Tracebacks are only logged.
"""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, flash, g, make_response, render_template, request, url_for
from flask_limiter import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.wrappers import Response as BaseResponse

from portal.database import is_unavailable
from portal.services.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, ServiceError
from portal.settings import Settings
from portal.web import htmx
from portal.web.extensions import limiter
from portal.web.session_cookie import is_visitor_operator

logger = logging.getLogger(__name__)

ErrorResponse = BaseResponse | tuple[str, int]

_STATUS: dict[type[ServiceError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConflictError: HTTPStatus.CONFLICT,
}
_RETRY_SECONDS = 10
"""When a client should try again while the database cannot be used."""
_MESSAGES = {
    404: "This page doesn't exist, or you don't have access.",
    405: "This address can only be used by the portal's own forms.",
    413: "The request is too large.",
}


class SignInRequired(Exception):
    """The page requires a signed-in user."""


class MembershipEnded(Exception):
    """The user was a member of the organization but is not any more.

    Args:
        org_name: the organization's name.
    """

    def __init__(self, org_name: str) -> None:
        super().__init__(org_name)
        self.org_name = org_name


def init_app(app: Flask) -> None:
    """Register a handler for each kind of error."""
    app.register_error_handler(SignInRequired, _redirect_to_sign_in)
    app.register_error_handler(MembershipEnded, _redirect_to_org_list)
    app.register_error_handler(ServiceError, _handle_service_error)
    app.register_error_handler(SecurityError, _handle_wrong_host)
    app.register_error_handler(CSRFError, _handle_invalid_csrf_token)
    app.register_error_handler(RateLimitExceeded, _handle_rate_limit)
    app.register_error_handler(HTTPException, _handle_http_error)
    app.register_error_handler(SQLAlchemyError, _handle_database_error)
    app.register_error_handler(Exception, _handle_unexpected_error)


def render_error(message: str, status: int) -> ErrorResponse:
    """Return the error page, or a toast for htmx requests."""
    if htmx.is_fragment():
        return htmx.error_toast(message, status)
    title = HTTPStatus(status).phrase.capitalize()
    return render_template("error.html", message=message, title=title, status=status), status


def _redirect_to_sign_in(_error: SignInRequired) -> ErrorResponse:
    if htmx.is_fragment():
        # After signing in, the user returns to the page that contains the fragment. htmx sends its URL.
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login", next=_find_current_page())})
    page = request.full_path.rstrip("?")
    target = page if request.method == "GET" and page != "/" else None
    return htmx.see_other(url_for("auth.login", next=target))


def _find_current_page() -> str | None:
    try:
        current = urlsplit(request.headers.get("HX-Current-URL", "/"))
    except ValueError:  # no browser sends an invalid URL
        return None
    return current.path + (f"?{current.query}" if current.query else "")


def _redirect_to_org_list(ended: MembershipEnded) -> ErrorResponse:
    flash(f"You were removed from {ended.org_name}.", "info")
    return htmx.go_to(url_for("orgs.index"))


def _handle_service_error(error: ServiceError) -> ErrorResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    return render_error(error.for_operators if is_visitor_operator() else str(error), status)


def _handle_wrong_host(_error: SecurityError) -> ErrorResponse:
    settings: Settings = current_app.extensions["settings"]
    # The error page cannot be rendered, because its links need a trusted host.
    text = f"Open this portal at {settings.base_url} (setting BASE_URL).\n"
    return Response(text, 400, mimetype="text/plain")


def _handle_invalid_csrf_token(_error: CSRFError) -> ErrorResponse:
    if request.endpoint in {"auth.sign_in", "signup.create"} and g.get("visitor"):
        # The same person has signed in in another tab, which changed the CSRF token of this browser.
        return htmx.go_to(url_for("home.index"))
    return render_error("This form is outdated. Go back, reload the page and try again.", 400)


def _handle_rate_limit(error: RateLimitExceeded) -> ErrorResponse:
    limit = limiter.current_limit
    seconds = max(1, int(limit.reset_at - time.time())) if limit else 900
    message = f"Too many attempts. Try again in {_format_span(seconds)}."
    if error.limit is not None and error.limit.error_message:
        message = f"{message} {error.limit.error_message}"
    response = make_response(render_error(message, 429))
    response.headers["Retry-After"] = str(seconds)
    return response


def _format_span(seconds: int) -> str:
    count, unit = (-(-seconds // 60), "minute") if seconds <= 5400 else (-(-seconds // 3600), "hour")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _handle_http_error(error: HTTPException) -> Any:
    if error.code is None or error.code < 400:
        return error
    # Flask wraps errors that occur after the view, as in the commit.
    original = getattr(error, "original_exception", None)
    if isinstance(original, SQLAlchemyError) and is_unavailable(original):
        return _handle_database_error(original)
    return render_error(_MESSAGES.get(error.code) or str(error.description), error.code)


def _handle_database_error(error: SQLAlchemyError) -> Any:
    if not is_unavailable(error):
        return _handle_unexpected_error(error)
    logger.error("the database cannot be used in %s %s: %s", request.method, request.endpoint, type(error).__name__)
    g.pop("commit_despite_error", None)  # what the request has written so far is not complete
    message = "The portal cannot use its database at the moment. Try again in a few seconds."
    response = make_response(render_error(message, HTTPStatus.SERVICE_UNAVAILABLE))
    response.headers["Retry-After"] = str(_RETRY_SECONDS)
    return response


def _handle_unexpected_error(error: Exception) -> Any:
    logger.error("error in %s %s", request.method, request.endpoint, exc_info=error)
    if current_app.testing:
        raise error
    return render_error("Something went wrong. The error was logged. Try again in a moment.", 500)

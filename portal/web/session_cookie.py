"""The session cookie: recognize the visitor of a request, sign in, sign out. Used by views and page templates."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from flask import Flask, current_app, g, request
from werkzeug.wrappers import Response

from portal.database import UNAVAILABLE_ERRORS
from portal.models import User, utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web import device_cookie, htmx, pending_tokens
from portal.web.cookie_names import session_cookie_name
from portal.web.security import PUBLIC_FILES, bind_csrf
from portal.web.unit_of_work import separate_transaction, separate_write_transaction, session

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Visitor:
    """The signed-in user of a request and their session. `user` is detached: only its columns can be read."""

    user: User
    session_hash: str


def init_app(app: Flask) -> None:
    """Recognize the visitor before every request except those for files."""
    app.before_request(_recognize_visitor)


def current_visitor() -> Visitor | None:
    """Return the visitor of this request; None when no user is signed in."""
    visitor: Visitor | None = g.get("visitor")
    return visitor


def require_visitor() -> Visitor:
    """Return the visitor of a request that requires a signed-in user.

    Raises:
        RuntimeError: a program error: no user is signed in.
    """
    if (visitor := current_visitor()) is None:
        raise RuntimeError("this request has no visitor")
    return visitor


def is_visitor_operator() -> bool:
    """Return whether an operator is signed in, who may read details that customers may not."""
    visitor = current_visitor()
    return visitor is not None and visitor.user.is_platform_admin


def sign_in(response: Response, user_id: str) -> None:
    """Start a session, end the session this browser had, clear the visitor's cookie, and remember the account."""
    _end_current_session()
    token = sessions.start(
        session(),
        user_id,
        now=utcnow(),
        user_agent=request.user_agent.string,
        ip=request.remote_addr or "",
    )
    pending_tokens.clear_cookie()
    _set_cookie(response, token)
    device_cookie.remember_account(response, user_id)


def rotate(response: Response) -> None:
    """Replace the session's token. Call this after the rights or the email of its user changed."""
    if visitor := current_visitor():
        _set_cookie(response, sessions.rotate_token(session(), visitor.session_hash))


def sign_out(response: Response) -> None:
    """End this browser's session in the database and delete its cookie."""
    _end_current_session()
    pending_tokens.clear_cookie()
    settings = _settings()
    response.delete_cookie(
        session_cookie_name(settings), secure=settings.secure_cookies, httponly=True, samesite="Lax"
    )


def _set_cookie(response: Response, token: str) -> None:
    settings = _settings()
    response.set_cookie(
        session_cookie_name(settings),
        token,
        max_age=sessions.MAX_AGE,
        secure=settings.secure_cookies,
        httponly=True,
        samesite="Lax",
    )


def _end_current_session() -> None:
    if visitor := current_visitor():
        sessions.sign_out(session(), visitor.user.id, visitor.session_hash, utcnow())


def _recognize_visitor() -> None:
    """Load the session of the cookie. Uses separate transactions, so that the request's own one starts later."""
    token = request.cookies.get(session_cookie_name(_settings()))
    if not token or request.endpoint in PUBLIC_FILES:
        return
    now = utcnow()
    with separate_transaction() as reading:
        row = sessions.find(reading, token, now)
        if row is None:
            return
        g.visitor = Visitor(user=row.user, session_hash=row.id_hash)
        # Polling fragments do not count as use, so an open page does not keep a session alive.
        is_use_due = sessions.is_last_seen_stale(row, now) and not htmx.is_automatic_refresh()
    bind_csrf(token)
    if is_use_due:
        _record_use(g.visitor.session_hash, now)


def _record_use(session_hash: str, now: datetime) -> None:
    """Record the use of the session. A database that cannot be written to does not keep visitors from reading."""
    try:
        with separate_write_transaction() as writing:
            sessions.record_use(writing, session_hash, now)
    except UNAVAILABLE_ERRORS as error:
        logger.warning("the use of a session cannot be recorded: %s", type(error).__name__)


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings

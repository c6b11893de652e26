"""Who is asking: the cookie of a signed-in browser, looked up before each request's own transaction."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app, g, request
from werkzeug.wrappers import Response

from portal.models import User, utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web import htmx, pending_tokens
from portal.web.security import bind_csrf, session_cookie_name
from portal.web.unit_of_work import separate_transaction, separate_write_transaction, session


@dataclass(frozen=True)
class Visitor:
    """A signed-in user and the session they came with. `user` is detached: read its columns, nothing else."""

    user: User
    session_hash: str


def init_app(app: Flask) -> None:
    """Look the visitor up at the beginning of every request but those for files."""
    app.before_request(_recognize)


def visitor() -> Visitor | None:
    """Who is signed in, or None."""
    found: Visitor | None = g.get("visitor")
    return found


def sign_in(response: Response, user_id: str) -> None:
    """Give this browser a fresh session, end the one it had, and forget what it carried while signed out."""
    _end_own()
    token = sessions.start(
        session(),
        user_id,
        now=utcnow(),
        user_agent=request.user_agent.string,
        ip=request.remote_addr or "",
    )
    pending_tokens.keep_across_sign_in()
    _set_cookie(response, token)


def renew(response: Response) -> None:
    """Give this browser's session another id, as the rights of its user change: call it once they have."""
    if found := visitor():
        _set_cookie(response, sessions.rotate_token(session(), found.session_hash))


def sign_out(response: Response) -> None:
    """End this browser's session, in the database too."""
    _end_own()
    pending_tokens.keep_across_sign_in()
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


def _end_own() -> None:
    if found := visitor():
        sessions.sign_out(session(), found.user.id, found.session_hash, utcnow())


def _recognize() -> None:
    token = request.cookies.get(session_cookie_name(_settings()))
    if not token or request.endpoint in {"static", "assets.vendor"}:
        return
    now = utcnow()
    with separate_transaction() as look:
        row = sessions.find(look, token, now)
        if row is None:
            return
        g.visitor = Visitor(user=row.user, session_hash=row.id_hash)
        touch = sessions.is_last_seen_stale(row, now) and not htmx.is_part()
    bind_csrf(token)
    if touch:
        with separate_write_transaction() as short:
            sessions.record_use(short, g.visitor.session_hash, now)


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings

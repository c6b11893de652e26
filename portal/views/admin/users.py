"""Everybody's accounts."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.models import utcnow
from portal.services.accounts import administration, sessions
from portal.services.accounts.administration import AccountFilter
from portal.services.audit import log
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_users", __name__, url_prefix="/admin/users")


@pages.get("")
def index() -> Response:
    """Search and narrow; an address that makes no sense shows everything."""
    authorization.require_operator()
    text, kind = request.args.get("q", ""), AccountFilter.ALL
    with suppress(ValueError):
        kind = AccountFilter(request.args.get("show", AccountFilter.ALL))
    return htmx.page(
        "admin/users.html",
        parts={"users": "admin/_users.html"},
        listing=administration.search(session(), utcnow(), text, kind, request.args.get("page", 1, type=int)),
        text=text,
        kind=kind,
        kinds=list(AccountFilter),
    )


@pages.get("/<user_id>")
def show(user_id: str) -> str:
    """One person: where they belong, the browsers they are signed in with, and what they did lately."""
    operator = authorization.require_operator()
    person = administration.get_user(session(), user_id)
    return render_template(
        "admin/user.html",
        person=person,
        oneself=person.id == operator.id,
        belongings=administration.list_orgs(session(), person),
        browsers=sessions.list_active(session(), person.id, utcnow()),
        lines=log.list_about_user(session(), person),
    )


@pages.post("/<user_id>/disable")
def disable(user_id: str) -> Response:
    """Keep them out, beginning with every browser they are signed in with."""
    person = administration.disable(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _back(user_id, f"The account of {person.name} is disabled, and every session of it has ended.")


@pages.post("/<user_id>/enable")
def enable(user_id: str) -> Response:
    """Let them in again."""
    person = administration.enable(session(), user_id, actor=authorization.require_operator())
    return _back(user_id, f"{person.name} can sign in again.")


@pages.post("/<user_id>/end-sessions")
def end_sessions(user_id: str) -> Response:
    """Sign them out everywhere."""
    ended = administration.end_sessions(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _back(user_id, f"Signed out of {ended} browser{'' if ended == 1 else 's'}.")


@pages.post("/<user_id>/operator/grant")
def grant_operator(user_id: str) -> Response:
    """Let them run the platform."""
    person = administration.grant_operator(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _back(user_id, f"{person.name} is an operator, and has to sign in again.")


@pages.post("/<user_id>/operator/revoke")
def revoke_operator(user_id: str) -> Response:
    """Let them run it no more."""
    person = administration.revoke_operator(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _back(user_id, f"{person.name} is no operator any more, and has to sign in again.")


def _back(user_id: str, said: str) -> Response:
    flash(said, "info")
    return htmx.see_other(url_for("admin_users.show", user_id=user_id))

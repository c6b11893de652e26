"""Everybody's accounts."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from portal import htmx
from portal.models import utcnow
from portal.services import audit, sessions, users
from portal.services.users import Kind
from portal.unit_of_work import session
from portal.views import access

pages = Blueprint("admin_users", __name__, url_prefix="/admin/users")


@pages.get("")
def index() -> Response:
    """Search and narrow; an address that makes no sense shows everything."""
    access.operator()
    text, kind = request.args.get("q", ""), Kind.ALL
    with suppress(ValueError):
        kind = Kind(request.args.get("show", Kind.ALL))
    return htmx.page(
        "admin/users.html",
        parts={"users": "admin/_users.html"},
        listing=users.search(session(), utcnow(), text, kind, request.args.get("page", 1, type=int)),
        text=text,
        kind=kind,
        kinds=list(Kind),
    )


@pages.get("/<user_id>")
def show(user_id: str) -> str:
    """One person: where they belong, the browsers they are signed in with, and what they did lately."""
    operator = access.operator()
    person = users.get(session(), user_id)
    return render_template(
        "admin/user.html",
        person=person,
        oneself=person.id == operator.id,
        belongings=users.belongings(session(), person),
        browsers=sessions.living(session(), person.id, utcnow()),
        lines=audit.about_user(session(), person),
    )


@pages.post("/<user_id>/disable")
def disable(user_id: str) -> Response:
    """Keep them out, beginning with every browser they are signed in with."""
    person = users.disable(session(), user_id, utcnow(), actor=access.operator())
    return _back(user_id, f"The account of {person.name} is disabled, and every session of it has ended.")


@pages.post("/<user_id>/enable")
def enable(user_id: str) -> Response:
    """Let them in again."""
    person = users.enable(session(), user_id, actor=access.operator())
    return _back(user_id, f"{person.name} can sign in again.")


@pages.post("/<user_id>/end-sessions")
def end_sessions(user_id: str) -> Response:
    """Sign them out everywhere."""
    ended = users.end_sessions(session(), user_id, utcnow(), actor=access.operator())
    return _back(user_id, f"Signed out of {ended} browser{'' if ended == 1 else 's'}.")


@pages.post("/<user_id>/operator/grant")
def grant_operator(user_id: str) -> Response:
    """Let them run the platform."""
    person = users.grant_operator(session(), user_id, utcnow(), actor=access.operator())
    return _back(user_id, f"{person.name} is an operator, and has to sign in again.")


@pages.post("/<user_id>/operator/revoke")
def revoke_operator(user_id: str) -> Response:
    """Let them run it no more."""
    person = users.revoke_operator(session(), user_id, utcnow(), actor=access.operator())
    return _back(user_id, f"{person.name} is no operator any more, and has to sign in again.")


def _back(user_id: str, said: str) -> Response:
    flash(said, "info")
    return htmx.see_other(url_for("admin_users.show", user_id=user_id))

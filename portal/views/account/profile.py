"""The account page: name, email, password and active sessions of the signed-in user."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, make_response, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.account import ChangeEmailForm, ChangePasswordForm, NameForm
from portal.forms.base import Form
from portal.models import UserSession, utcnow
from portal.password_hashing import hash_password
from portal.rules.user_agents import describe_browser
from portal.services.account_changes import profile
from portal.services.accounts import accounts, sessions
from portal.services.errors import InvalidError
from portal.views.support import authorization, reauthentication
from portal.views.support.configuration import current_settings
from portal.web import htmx, session_cookie
from portal.web.unit_of_work import session

pages = Blueprint("account", __name__, url_prefix="/account")

Answer = Response | str | tuple[str, int]


@dataclass(frozen=True)
class SessionRow:
    """One row of the list of active sessions."""

    session: UserSession
    browser: str
    is_current: bool


@pages.get("")
def index() -> Response:
    """Show the account page."""
    return render_page()


@pages.post("/name")
def rename() -> Answer:
    """Change the user's name."""
    form = NameForm(prefix="name")
    if not form.validate():
        return render_page(name=form)
    try:
        profile.rename_user(session(), authorization.require_user().id, form.name.data, utcnow())
    except InvalidError as error:
        form.name.errors = [str(error)]
        return render_page(name=form)
    flash("Name changed.", "info")
    return htmx.go_to(url_for("account.index"))


@pages.post("/password")
@reauthentication.limit_attempts
def change_password() -> Answer:
    """Change the password and end all other sessions."""
    user, form = authorization.require_user(), ChangePasswordForm(prefix="password")
    if not form.validate_with_policy(current_settings().product_name, user.email, user.name):
        return render_page(password=form)
    if not reauthentication.is_password_correct(form.current_password.data):
        form.current_password.errors = [reauthentication.MISMATCH_MESSAGE]
        return render_page(password=form)

    password_hash = hash_password(form.password.data)
    reauthentication.require_unchanged_password()
    accounts.set_password(session(), user.id, password_hash, utcnow(), keep_session=_current_session_hash())
    flash("Password changed. All other browsers were signed out.", "info")
    response = htmx.go_to(url_for("account.index"))
    session_cookie.rotate(response)
    return response


@pages.post("/sessions/end")
def end_session() -> Answer:
    """End one session, which may be the current one."""
    id_hash = request.form.get("session", "")
    if id_hash == _current_session_hash():
        return _sign_out()
    if sessions.end(session(), authorization.require_user().id, id_hash, utcnow()):
        flash("Browser signed out.", "info")
    else:
        flash("This browser was already signed out.", "info")
    return htmx.go_to(url_for("account.index", _anchor="browsers"))


@pages.post("/sessions/end-all")
def end_all_sessions() -> Answer:
    """End all sessions, including the current one."""
    user = authorization.require_user()
    sessions.end_all(session(), user.id, utcnow(), actor=user)
    return _sign_out()


def render_page(**invalid_forms: Form) -> Response:
    """Render the account page, with status 422 when a form is invalid.

    Args:
        invalid_forms: forms with their errors, by name: `name`, `address` or `password`.
    """
    user = authorization.require_user()
    forms: dict[str, Form] = {
        "name": NameForm(prefix="name", formdata=None, name=user.name),
        "address": ChangeEmailForm(prefix="address", formdata=None),
        "password": ChangePasswordForm(prefix="password", formdata=None),
    }
    rows = [
        SessionRow(row, describe_browser(row.user_agent), row.id_hash == _current_session_hash())
        for row in sessions.list_active(session(), user.id, utcnow())
    ]
    html = render_template(
        "account/profile.html",
        user=user,
        forms={**forms, **invalid_forms},
        sessions=rows,
        idle_timeout=sessions.IDLE_TIMEOUT,
        max_age=sessions.MAX_AGE,
    )
    return make_response(html, 422 if invalid_forms else 200)


def _current_session_hash() -> str:
    visitor = session_cookie.current_visitor()
    return visitor.session_hash if visitor else ""


def _sign_out() -> Response:
    response = htmx.go_to(url_for("auth.login"))
    session_cookie.sign_out(response)
    return response

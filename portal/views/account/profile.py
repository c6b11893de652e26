"""One's own account: name, password, and where one is signed in."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, flash, make_response, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.account import AddressForm, NameForm, PasswordForm
from portal.forms.base import Form
from portal.models import UserSession, utcnow
from portal.password_hashing import hash_password
from portal.rules.user_agents import describe_browser
from portal.services.account_changes import profile
from portal.services.accounts import accounts
from portal.services.accounts import sessions as signed_in
from portal.services.errors import InvalidError
from portal.views.support import authorization, reauthentication
from portal.views.support.configuration import current_settings
from portal.web import htmx, session_cookie
from portal.web.unit_of_work import session

pages = Blueprint("account", __name__, url_prefix="/account")

Answer = Response | str | tuple[str, int]


@dataclass(frozen=True)
class Browser:
    """A line of the list of browsers."""

    row: UserSession
    words: str
    is_this: bool


@pages.get("")
def index() -> Response:
    """Everything there is to change."""
    return page()


@pages.post("/name")
def rename() -> Answer:
    """Change how one is called."""
    form = NameForm(prefix="name")
    if not form.validate():
        return page(name=form)
    try:
        profile.rename_user(session(), authorization.require_user().id, form.name.data)
    except InvalidError as error:
        form.name.errors = [str(error)]
        return page(name=form)
    flash("Your name is changed.", "info")
    return htmx.go_to(url_for("account.index"))


@pages.post("/password")
@reauthentication.attempts
def change_password() -> Answer:
    """Change the password; every other browser is signed out."""
    user, form = authorization.require_user(), PasswordForm(prefix="password")
    if not form.accepts(current_settings().product_name, user.email, user.name):
        return page(password=form)
    if not reauthentication.is_password_correct(form.present.data):
        form.present.errors = [reauthentication.WRONG_PASSWORD]
        return page(password=form)

    stored = hash_password(form.password.data)
    reauthentication.require_unchanged_password()
    accounts.set_password(session(), user.id, stored, utcnow(), keep_session=_this())
    flash("Your password is changed. Every other browser was signed out.", "info")
    answer = htmx.go_to(url_for("account.index"))
    session_cookie.renew(answer)
    return answer


@pages.post("/sessions/end")
def end_session() -> Answer:
    """Sign one browser out, be it this one."""
    chosen = request.form.get("session", "")
    if chosen == _this():
        return _leave()
    if signed_in.end(session(), authorization.require_user().id, chosen, utcnow()):
        flash("That browser is signed out.", "info")
    else:
        flash("That browser was signed out already.", "info")
    return htmx.go_to(url_for("account.index", _anchor="browsers"))


@pages.post("/sessions/end-all")
def end_all_sessions() -> Answer:
    """Sign every browser out, this one too."""
    user = authorization.require_user()
    signed_in.end_all(session(), user.id, utcnow(), actor=user.id)
    return _leave()


def page(**refused: Form) -> Response:
    """The account's page, with the form that was refused, if one was.

    Args:
        refused: the form with its errors, by name: `name`, `address` or `password`.
    """
    user = authorization.require_user()
    forms: dict[str, Form] = {
        "name": NameForm(prefix="name", formdata=None, name=user.name),
        "address": AddressForm(prefix="address", formdata=None),
        "password": PasswordForm(prefix="password", formdata=None),
    }
    browsers = [
        Browser(row, describe_browser(row.user_agent), row.id_hash == _this())
        for row in signed_in.list_active(session(), user.id, utcnow())
    ]
    html = render_template("account/profile.html", user=user, forms={**forms, **refused}, browsers=browsers)
    return make_response(html, 422 if refused else 200)


def _this() -> str:
    found = session_cookie.visitor()
    return found.session_hash if found else ""


def _leave() -> Response:
    answer = htmx.go_to(url_for("auth.login"))
    session_cookie.sign_out(answer)
    return answer

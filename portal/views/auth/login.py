"""Login and logout pages."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import LoginForm
from portal.models import EventTag
from portal.password_hashing import verify_password
from portal.services import events
from portal.services.accounts import accounts
from portal.views.support import sign_in_limits
from portal.views.support.configuration import current_settings
from portal.web import htmx, session_cookie
from portal.web.redirects import safe_redirect_target
from portal.web.unit_of_work import commit_despite_error, separate_transaction, session

pages = Blueprint("auth", __name__)

Answer = Response | str | tuple[str, int]


@pages.get("/login")
def login() -> Answer:
    """Show the login form; redirect a visitor who is already signed in."""
    if session_cookie.current_visitor():
        return htmx.see_other(safe_redirect_target(request.args.get("next")) or url_for("home.index"))
    return _render_form(LoginForm(next=request.args.get("next")))


@pages.post("/login")
def sign_in() -> Answer:
    """Verify the password and start a session.

    The answers for an unknown email and for a wrong password are the same and take equally long.
    """
    form = LoginForm()
    if not form.validate():
        return _render_form(form), 422

    with separate_transaction() as reading:
        credentials = accounts.find_credentials(reading, form.email.data)
    sign_in_limits.count_attempt(form.email.data, credentials.user_id if credentials else None)
    is_correct = verify_password(credentials.password_hash if credentials else None, form.password.data)

    if credentials is None or not is_correct or not accounts.are_credentials_current(session(), credentials):
        # The event names the account as its subject. The actor stays unknown.
        facts = {"user_id": credentials.user_id} if credentials else {}
        events.record(session(), EventTag.USER_SIGN_IN_FAILED, data=facts)
        commit_despite_error()
        return _render_form(form, refused=True), 422

    response = htmx.go_to(safe_redirect_target(form.next.data) or url_for("home.index"))
    session_cookie.sign_in(response, credentials.user_id)
    events.record(session(), EventTag.USER_SIGNED_IN, actor=credentials.user_id)
    return response


@pages.post("/logout")
def sign_out() -> Answer:
    """End the session of this browser."""
    response = htmx.go_to(url_for("auth.login"))
    session_cookie.sign_out(response)
    return response


def _render_form(form: LoginForm, *, refused: bool = False) -> str:
    public_signup = current_settings().public_signup
    return render_template("auth/login.html", form=form, refused=refused, public_signup=public_signup)

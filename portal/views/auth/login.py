"""Signing in and out."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import LoginForm
from portal.models import EventTag
from portal.password_hashing import verify_password
from portal.services import events
from portal.services.accounts import accounts
from portal.views.support.configuration import current_settings
from portal.views.support.rate_limits import posted_email_key
from portal.web import htmx, session_cookie
from portal.web.extensions import limiter
from portal.web.redirects import safe_local_page
from portal.web.unit_of_work import commit_despite_error, separate_transaction, session

pages = Blueprint("auth", __name__)

Answer = Response | str | tuple[str, int]


@pages.get("/login")
def login() -> Answer:
    """The form; who is signed in already goes on."""
    if session_cookie.visitor():
        return htmx.see_other(safe_local_page(request.args.get("next")) or url_for("home.index"))
    return _page(LoginForm(next=request.args.get("next")))


@pages.post("/login")
@limiter.limit("30 per 15 minutes")
@limiter.limit("10 per 15 minutes", key_func=posted_email_key)
def sign_in() -> Answer:
    """Compare the password, then start a session. Unknown address and wrong password look and last alike."""
    form = LoginForm()
    if not form.validate():
        return _page(form), 422

    with separate_transaction() as look:
        account = accounts.find_credentials(look, form.email.data)
    known = verify_password(account.password_hash if account else None, form.password.data)

    if account is None or not known or not accounts.are_credentials_current(session(), account):
        # Whose account it is, not who tried.
        facts = {"user_id": account.user_id} if account else {}
        events.record(session(), EventTag.USER_SIGN_IN_FAILED, data=facts)
        commit_despite_error()
        return _page(form, refused=True), 422

    answer = htmx.go_to(safe_local_page(form.next.data) or url_for("home.index"))
    session_cookie.sign_in(answer, account.user_id)
    events.record(session(), EventTag.USER_SIGNED_IN, actor=account.user_id)
    return answer


@pages.post("/logout")
def sign_out() -> Answer:
    """End the session of this browser."""
    answer = htmx.go_to(url_for("auth.login"))
    session_cookie.sign_out(answer)
    return answer


def _page(form: LoginForm, *, refused: bool = False) -> str:
    public = current_settings().public_signup
    return render_template("auth/login.html", form=form, refused=refused, public_signup=public)

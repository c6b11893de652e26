"""Sign-up pages: confirm the email through a mailed link, then choose name and password."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import EmailForm, SignupForm
from portal.models import TokenPurpose, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts, one_time_tokens
from portal.services.errors import ForbiddenError, InvalidError
from portal.views.support import mail_limits, mailed_links
from portal.views.support.configuration import current_settings
from portal.web import htmx, pending_tokens, session_cookie
from portal.web.extensions import limiter
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("signup", __name__, url_prefix="/signup")

Answer = Response | str | tuple[str, int]

_PURPOSE = "signup"


@pages.get("")
def start() -> Answer:
    """Show the form that requests a link; redirect a visitor who is already signed in."""
    if session_cookie.current_visitor():
        return htmx.see_other(url_for("home.index"))
    _require_public_signup()
    return render_template("auth/signup.html", form=EmailForm())


@pages.post("")
@limiter.limit("5 per hour")
def ask() -> Answer:
    """Mail a link. The work and the answer are the same for every email."""
    _require_public_signup()
    form = EmailForm()
    if not form.validate():
        return render_template("auth/signup.html", form=form), 422
    mail_limits.count_request(form.email.data)
    one_time_tokens.request_link(session(), TokenPurpose.SIGNUP, form.email.data, utcnow())
    return mailed_links.redirect_to_sent(form.email.data, "signup.sent")


@pages.get("/sent")
def sent() -> str:
    """Show where the mail was sent."""
    return mailed_links.render_sent_page(url_for("signup.start"))


@pages.get("/<token>")
def follow(token: str) -> Response:
    """Store the token of a followed link and redirect to the form. The link stays valid."""
    pending_tokens.store_token(_PURPOSE, token)
    return htmx.see_other(url_for("signup.finish"))


@pages.get("/finish")
def finish() -> Answer:
    """Show the form for name and password when the link is valid."""
    email = _find_confirmed_email()
    if email is None:
        return mailed_links.render_dead_link(url_for("signup.start"))
    return render_template("auth/signup_finish.html", form=SignupForm(), email=email)


@pages.post("/finish")
def create() -> Answer:
    """Claim the link, create the account and sign in."""
    with separate_transaction():
        email = _find_confirmed_email()
    if email is None:
        return mailed_links.render_dead_link(url_for("signup.start"))
    form = SignupForm()
    if not form.validate_with_policy(current_settings().product_name, email, form.name.data or ""):
        return render_template("auth/signup_finish.html", form=form, email=email), 422

    password_hash = hash_password(form.password.data)
    token = pending_tokens.get_token(_PURPOSE)
    if one_time_tokens.claim(session(), TokenPurpose.SIGNUP, token, utcnow()) is None:
        return mailed_links.render_dead_link(url_for("signup.start"))
    try:
        user = accounts.create_user(session(), email, form.name.data, password_hash)
    except InvalidError as error:
        form.name.errors = [str(error)]
        return render_template("auth/signup_finish.html", form=form, email=email), 422

    pending_tokens.discard_token(_PURPOSE)
    response = htmx.go_to(url_for("home.index"))
    session_cookie.sign_in(response, user.id)
    flash(f"Welcome, {user.name}.", "info")
    return response


def _find_confirmed_email() -> str | None:
    """Return the email that the followed link was mailed to; None when the link is not valid."""
    _require_public_signup()
    token = one_time_tokens.find(session(), TokenPurpose.SIGNUP, pending_tokens.get_token(_PURPOSE), utcnow())
    return token.email if token else None


def _require_public_signup() -> None:
    if not current_settings().public_signup:
        raise ForbiddenError("You need an invitation to sign up here. Ask an owner or admin of your organization.")

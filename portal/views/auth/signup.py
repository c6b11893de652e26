"""Signing up: first the address, then, behind the link that was mailed to it, name and password."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import AskForMailForm, SignupForm
from portal.models import TokenPurpose, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts, one_time_tokens
from portal.services.errors import ForbiddenError, InvalidError
from portal.views.support import mailed_links
from portal.views.support.configuration import current_settings
from portal.web import htmx, pending_tokens, session_cookie
from portal.web.extensions import limiter
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("signup", __name__, url_prefix="/signup")

Answer = Response | str | tuple[str, int]


@pages.get("")
def start() -> Answer:
    """Ask for the address; who is signed in already goes on."""
    if session_cookie.visitor():
        return htmx.see_other(url_for("home.index"))
    _require_public()
    return render_template("auth/signup.html", form=AskForMailForm())


@pages.post("")
@limiter.limit("5 per hour")
def ask() -> Answer:
    """Have a link mailed. What is done and answered is the same for every address."""
    _require_public()
    form = AskForMailForm()
    if not form.validate():
        return render_template("auth/signup.html", form=form), 422
    one_time_tokens.request_link(session(), TokenPurpose.SIGNUP, form.email.data, utcnow())
    return mailed_links.redirect_to_sent(form.email.data, "signup.sent")


@pages.get("/sent")
def sent() -> str:
    """Say where the mail went."""
    return mailed_links.render_sent_page(url_for("signup.start"))


@pages.get("/<token>")
def follow(token: str) -> Response:
    """Take the token out of the address; nothing is consumed, for mail scanners come here too."""
    pending_tokens.store_token("signup", token)
    return htmx.see_other(url_for("signup.finish"))


@pages.get("/finish")
def finish() -> Answer:
    """Ask for name and password, where the link works."""
    email = _proven_address()
    if email is None:
        return mailed_links.render_dead_link(url_for("signup.start"))
    return render_template("auth/signup_finish.html", form=SignupForm(), email=email)


@pages.post("/finish")
def create() -> Answer:
    """Use the link up, make the account, and sign in."""
    with separate_transaction():
        email = _proven_address()
    if email is None:
        return mailed_links.render_dead_link(url_for("signup.start"))
    form = SignupForm()
    if not form.accepts(current_settings().product_name, email, form.name.data or ""):
        return render_template("auth/signup_finish.html", form=form, email=email), 422

    stored = hash_password(form.password.data)
    if one_time_tokens.claim(session(), TokenPurpose.SIGNUP, pending_tokens.get_token("signup"), utcnow()) is None:
        return mailed_links.render_dead_link(url_for("signup.start"))
    try:
        user = accounts.create(session(), email, form.name.data, stored)
    except InvalidError as error:
        form.name.errors = [str(error)]
        return render_template("auth/signup_finish.html", form=form, email=email), 422

    pending_tokens.discard_token("signup")
    answer = htmx.go_to(url_for("home.index"))
    session_cookie.sign_in(answer, user.id)
    flash(f"Welcome, {user.name}.", "info")
    return answer


def _proven_address() -> str | None:
    """The address that the followed link was mailed to; None when the link does not work."""
    _require_public()
    request = one_time_tokens.find(session(), TokenPurpose.SIGNUP, pending_tokens.get_token("signup"), utcnow())
    return request.email if request else None


def _require_public() -> None:
    if not current_settings().public_signup:
        raise ForbiddenError(
            "New accounts are made by invitation here: ask an owner or admin of your organization to invite you."
        )

"""A forgotten password: a link is mailed, and behind it a new one is set."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import AskForMailForm
from portal.forms.new_password import NewPasswordForm
from portal.models import TokenPurpose, User, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts, one_time_tokens
from portal.views.support import mailed_links
from portal.views.support.configuration import current_settings
from portal.views.support.rate_limits import posted_email_key
from portal.web import htmx, pending_tokens
from portal.web.extensions import limiter
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("recovery", __name__)

Answer = Response | str | tuple[str, int]


@pages.get("/forgot")
def start() -> str:
    """Ask for the address."""
    return render_template("auth/forgot.html", form=AskForMailForm())


@pages.post("/forgot")
@limiter.limit("30 per hour")
@limiter.limit("3 per hour", key_func=posted_email_key)
def ask() -> Answer:
    """Have a link mailed. What is done and answered is the same for every address."""
    form = AskForMailForm()
    if not form.validate():
        return render_template("auth/forgot.html", form=form), 422
    one_time_tokens.request_link(session(), TokenPurpose.RESET, form.email.data, utcnow())
    return mailed_links.redirect_to_sent(form.email.data, "recovery.sent")


@pages.get("/forgot/sent")
def sent() -> str:
    """Say where the mail went."""
    return mailed_links.render_sent_page(url_for("recovery.start"))


@pages.get("/reset/<token>")
def follow(token: str) -> Response:
    """Take the token out of the address; nothing is consumed, for mail scanners come here too."""
    pending_tokens.store_token("reset", token)
    return htmx.see_other(url_for("recovery.choose"))


@pages.get("/reset")
def choose() -> Answer:
    """Ask for the new password, where the link works."""
    user = _owner()
    if user is None:
        return mailed_links.render_dead_link(url_for("recovery.start"))
    return render_template("auth/reset.html", form=NewPasswordForm(), email=user.email)


@pages.post("/reset")
def reset() -> Answer:
    """Use the link up, set the password, and sign the account out everywhere; then it is signed in to anew."""
    with separate_transaction():
        user = _owner()
    if user is None:
        return mailed_links.render_dead_link(url_for("recovery.start"))
    form = NewPasswordForm()
    if not form.accepts(current_settings().product_name, user.email, user.name):
        return render_template("auth/reset.html", form=form, email=user.email), 422

    stored = hash_password(form.password.data)
    now = utcnow()
    if one_time_tokens.claim(session(), TokenPurpose.RESET, pending_tokens.get_token("reset"), now) is None:
        return mailed_links.render_dead_link(url_for("recovery.start"))
    accounts.set_password(session(), user.id, stored, now)
    pending_tokens.discard_token("reset")
    flash("Your new password is set. Sign in with it.", "info")
    return htmx.go_to(url_for("auth.login"))


def _owner() -> User | None:
    """The account that the followed link is for; None when the link does not work, or the account is switched off."""
    request = one_time_tokens.find(session(), TokenPurpose.RESET, pending_tokens.get_token("reset"), utcnow())
    user = accounts.find_by_email(session(), request.email) if request else None
    return user if user and user.disabled_at is None else None

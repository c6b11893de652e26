"""Password reset pages: request a link by mail, then set a new password."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import EmailForm
from portal.forms.new_password import NewPasswordForm
from portal.models import TokenPurpose, User, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts, one_time_tokens
from portal.views.support import mail_limits, mailed_links
from portal.views.support.configuration import current_settings
from portal.views.support.rate_limits import posted_email_and_network_key
from portal.web import device_cookie, htmx, pending_tokens
from portal.web.extensions import limiter
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("recovery", __name__)

Answer = Response | str | tuple[str, int]

_PURPOSE = "reset"


@pages.get("/forgot")
def start() -> str:
    """Show the form that requests a link."""
    return render_template("auth/forgot.html", form=EmailForm())


@pages.post("/forgot")
@limiter.limit("30 per hour")
@limiter.limit("3 per hour; 6 per day", key_func=posted_email_and_network_key)
def ask() -> Answer:
    """Mail a link. The work and the answer are the same for every email.

    One network cannot use up the daily limit of mails to a recipient, which would keep the owner from a reset.
    """
    form = EmailForm()
    if not form.validate():
        return render_template("auth/forgot.html", form=form), 422
    mail_limits.count_request(form.email.data)
    one_time_tokens.request_link(session(), TokenPurpose.RESET, form.email.data, utcnow())
    return mailed_links.redirect_to_sent(form.email.data, "recovery.sent")


@pages.get("/forgot/sent")
def sent() -> str:
    """Show where the mail was sent."""
    return mailed_links.render_sent_page(url_for("recovery.start"))


@pages.get("/reset/<token>")
def follow(token: str) -> Response:
    """Store the token of a followed link and redirect to the form. The link stays valid."""
    pending_tokens.store_token(_PURPOSE, token)
    return htmx.see_other(url_for("recovery.choose"))


@pages.get("/reset")
def choose() -> Answer:
    """Show the form for a new password when the link is valid."""
    user = _find_user()
    if user is None:
        return mailed_links.render_dead_link(url_for("recovery.start"))
    return render_template("auth/reset.html", form=NewPasswordForm(), email=user.email)


@pages.post("/reset")
def reset() -> Answer:
    """Claim the link, set the password and end all sessions. The user signs in afterwards."""
    with separate_transaction():
        user = _find_user()
    if user is None:
        return mailed_links.render_dead_link(url_for("recovery.start"))
    form = NewPasswordForm()
    if not form.validate_with_policy(current_settings().product_name, user.email, user.name):
        return render_template("auth/reset.html", form=form, email=user.email), 422

    password_hash = hash_password(form.password.data)
    now = utcnow()
    if one_time_tokens.claim(session(), TokenPurpose.RESET, pending_tokens.get_token(_PURPOSE), now) is None:
        return mailed_links.render_dead_link(url_for("recovery.start"))
    accounts.set_password(session(), user.id, password_hash, now)
    pending_tokens.discard_token(_PURPOSE)
    flash("Password changed. Sign in with your new password.", "info")
    response = htmx.go_to(url_for("auth.login"))
    device_cookie.remember_account(response, user.id)
    return response


def _find_user() -> User | None:
    """Return the user of the followed link; None when the link is not valid or the account is disabled."""
    token = one_time_tokens.find(session(), TokenPurpose.RESET, pending_tokens.get_token(_PURPOSE), utcnow())
    user = accounts.find_by_email(session(), token.email) if token else None
    return user if user and user.disabled_at is None else None

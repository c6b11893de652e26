"""Email change of the user's own account: requested with the password, confirmed with a link to the new email."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.account import ChangeEmailForm
from portal.models import TokenPurpose, utcnow
from portal.services.account_changes import profile
from portal.services.accounts import one_time_tokens
from portal.services.errors import ConflictError
from portal.views.account import profile as account_page
from portal.views.support import authorization, mail_limits, mailed_links, reauthentication
from portal.web import htmx, pending_tokens, session_cookie
from portal.web.unit_of_work import session

pages = Blueprint("account_address", __name__, url_prefix="/account")

Answer = Response | str | tuple[str, int]

_PURPOSE = "change_email"


@pages.post("/address")
@reauthentication.limit_attempts
def ask() -> Answer:
    """Mail a confirmation link to the new email."""
    user, form = authorization.require_user(), ChangeEmailForm(prefix="address")
    if not form.validate():
        return account_page.render_page(address=form)
    if not reauthentication.is_password_correct(form.current_password.data):
        form.current_password.errors = [reauthentication.MISMATCH_MESSAGE]
        return account_page.render_page(address=form)
    mail_limits.count_email_change(form.email.data, actor=user)
    reauthentication.require_unchanged_password()
    try:
        profile.request_email_change(session(), user.id, form.email.data, utcnow())
    except ConflictError as error:
        form.email.errors = [str(error)]
        return account_page.render_page(address=form)
    flash(f"We sent a link to {form.email.data}. Open it to confirm your new email.", "info")
    return htmx.go_to(url_for("account.index"))


@pages.get("/email/<token>")
def follow(token: str) -> Response:
    """Store the token of a followed link and redirect to the confirmation, which may require a sign-in first."""
    pending_tokens.store_token(_PURPOSE, token)
    return htmx.see_other(url_for("account_address.confirm"))


@pages.get("/email")
def confirm() -> Answer:
    """Ask for confirmation when the link is valid and belongs to the signed-in user."""
    user = authorization.require_user()
    token = one_time_tokens.find(session(), TokenPurpose.CHANGE_EMAIL, pending_tokens.get_token(_PURPOSE), utcnow())
    if token is None or token.user_id != user.id:
        return mailed_links.render_dead_link(url_for("account.index"))
    return render_template("account/email_change.html", new=token.email, old=user.email)


@pages.post("/email")
def change() -> Answer:
    """Claim the link and change the email."""
    user = authorization.require_user()
    new_email = profile.change_email(session(), user.id, pending_tokens.get_token(_PURPOSE), utcnow())
    pending_tokens.discard_token(_PURPOSE)
    flash(f"Email changed. Sign in with {new_email} from now on.", "info")
    response = htmx.go_to(url_for("account.index"))
    session_cookie.rotate(response)
    return response

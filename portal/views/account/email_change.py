"""Changing one's address: asked for with the password, confirmed by a link mailed to the new one."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.account import AddressForm
from portal.models import TokenPurpose, utcnow
from portal.services.account_changes import profile
from portal.services.accounts import one_time_tokens
from portal.services.errors import ConflictError
from portal.views.account import profile as account_page
from portal.views.support import authorization, mailed_links, reauthentication
from portal.web import htmx, pending_tokens, session_cookie
from portal.web.unit_of_work import session

pages = Blueprint("account_address", __name__, url_prefix="/account")

Answer = Response | str | tuple[str, int]


@pages.post("/address")
@reauthentication.attempts
def ask() -> Answer:
    """Have a link mailed to the new address."""
    user, form = authorization.require_user(), AddressForm(prefix="address")
    if not form.validate():
        return account_page.page(address=form)
    if not reauthentication.is_password_correct(form.present.data):
        form.present.errors = [reauthentication.WRONG_PASSWORD]
        return account_page.page(address=form)
    reauthentication.require_unchanged_password()
    try:
        profile.request_email_change(session(), user.id, form.email.data, utcnow())
    except ConflictError as error:
        form.email.errors = [str(error)]
        return account_page.page(address=form)
    flash(f"A link is on its way to {form.email.data}. Your address changes once you follow it.", "info")
    return htmx.go_to(url_for("account.index"))


@pages.get("/email/<token>")
def follow(token: str) -> Response:
    """Take the token out of the address; nothing is consumed. Who is signed out signs in first."""
    pending_tokens.store_token("change_email", token)
    return htmx.see_other(url_for("account_address.confirm"))


@pages.get("/email")
def confirm() -> Answer:
    """Ask whether the address is to be changed, where the link works for whoever is signed in."""
    user = authorization.require_user()
    request = one_time_tokens.find(
        session(), TokenPurpose.CHANGE_EMAIL, pending_tokens.get_token("change_email"), utcnow()
    )
    if request is None or request.user_id != user.id:
        return mailed_links.render_dead_link(url_for("account.index"))
    return render_template("account/email_change.html", new=request.email, old=user.email)


@pages.post("/email")
def change() -> Answer:
    """Use the link up and change the address."""
    new = profile.change_email(
        session(), authorization.require_user().id, pending_tokens.get_token("change_email"), utcnow()
    )
    pending_tokens.discard_token("change_email")
    flash(f"Your address is {new} from now on. Sign in with it.", "info")
    answer = htmx.go_to(url_for("account.index"))
    session_cookie.renew(answer)
    return answer

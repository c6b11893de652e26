"""Changing one's address: asked for with the password, confirmed by a link mailed to the new one."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal import htmx, pending, sessions
from portal.forms.account import AddressForm
from portal.models import TokenPurpose, utcnow
from portal.services import one_time_tokens, profiles
from portal.services.errors import ConflictError
from portal.unit_of_work import session
from portal.views import access, account, mailed_links, own_password

pages = Blueprint("account_address", __name__, url_prefix="/account")

Answer = Response | str | tuple[str, int]


@pages.post("/address")
@own_password.attempts
def ask() -> Answer:
    """Have a link mailed to the new address."""
    user, form = access.user(), AddressForm(prefix="address")
    if not form.validate():
        return account.page(address=form)
    if not own_password.is_right(form.present.data):
        form.present.errors = [own_password.WRONG]
        return account.page(address=form)
    own_password.require_unchanged()
    try:
        profiles.ask_for_address(session(), user.id, form.email.data, utcnow())
    except ConflictError as error:
        form.email.errors = [str(error)]
        return account.page(address=form)
    flash(f"A link is on its way to {form.email.data}. Your address changes once you follow it.", "info")
    return htmx.go_to(url_for("account.index"))


@pages.get("/email/<token>")
def follow(token: str) -> Response:
    """Take the token out of the address; nothing is consumed. Who is signed out signs in first."""
    pending.keep("change_email", token)
    return htmx.see_other(url_for("account_address.confirm"))


@pages.get("/email")
def confirm() -> Answer:
    """Ask whether the address is to be changed, where the link works for whoever is signed in."""
    user = access.user()
    request = one_time_tokens.find(session(), TokenPurpose.CHANGE_EMAIL, pending.token("change_email"), utcnow())
    if request is None or request.user_id != user.id:
        return mailed_links.dead(url_for("account.index"))
    return render_template("account/address.html", new=request.email, old=user.email)


@pages.post("/email")
def change() -> Answer:
    """Use the link up and change the address."""
    new = profiles.change_address(session(), access.user().id, pending.token("change_email"), utcnow())
    pending.forget("change_email")
    flash(f"Your address is {new} from now on. Sign in with it.", "info")
    answer = htmx.go_to(url_for("account.index"))
    sessions.renew(answer)
    return answer

"""The page that deletes the user's own account."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.account import DeleteAccountForm
from portal.models import utcnow
from portal.rules import email_addresses
from portal.services.account_changes import deletion
from portal.services.orgs import memberships
from portal.views.support import authorization, reauthentication
from portal.web import htmx, session_cookie
from portal.web.unit_of_work import session

pages = Blueprint("account_deletion", __name__, url_prefix="/account/delete")

Answer = Response | str | tuple[str, int]


@pages.get("")
def confirm() -> str:
    """Show what the deletion removes, or which organizations the user has to transfer or delete first."""
    return _render_form(DeleteAccountForm())


@pages.post("")
@reauthentication.limit_attempts
def delete() -> Answer:
    """Delete the account when the user entered its email and its password."""
    user, form = authorization.require_user(), DeleteAccountForm()
    if not form.validate():
        return _render_form(form), 422
    if not reauthentication.is_password_correct(form.current_password.data):
        form.current_password.errors = [reauthentication.MISMATCH_MESSAGE]
        return _render_form(form), 422
    if email_addresses.normalize(form.email.data) != user.email_normalized:
        form.email.errors = [f"Type the email of this account: {user.email}"]
        return _render_form(form), 422

    deletion.delete_account(session(), reauthentication.current_credentials(), utcnow())
    response = htmx.go_to(url_for("auth.login"))
    session_cookie.sign_out(response)
    flash("Account deleted.", "info")
    return response


def _render_form(form: DeleteAccountForm) -> str:
    user = authorization.require_user()
    owned = deletion.list_owned_orgs(session(), user.id)
    orgs = memberships.list_orgs(session(), user.id)
    return render_template("account/deletion.html", form=form, user=user, owned=owned, orgs=orgs)

"""Deleting one's account."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal.forms.account import DeletionForm
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
    """What would be lost; or, for owners, what has to be handed over first."""
    return _page(DeletionForm())


@pages.post("")
@reauthentication.attempts
def delete() -> Answer:
    """Delete the account of somebody who typed its address and knows its password."""
    user, form = authorization.require_user(), DeletionForm()
    if not form.validate():
        return _page(form), 422
    if not reauthentication.is_password_correct(form.present.data):
        form.present.errors = [reauthentication.WRONG_PASSWORD]
        return _page(form), 422
    if email_addresses.normalize(form.email.data) != user.email_normalized:
        form.email.errors = [f"Type the address of this account exactly: {user.email}"]
        return _page(form), 422

    deletion.delete_account(session(), reauthentication.current_credentials(), utcnow())
    answer = htmx.go_to(url_for("auth.login"))
    session_cookie.sign_out(answer)
    flash("Your account is deleted.", "info")
    return answer


def _page(form: DeletionForm) -> str:
    user = authorization.require_user()
    owned = deletion.list_owned_orgs(session(), user.id)
    left = memberships.list_orgs(session(), user.id)
    return render_template("account/deletion.html", form=form, user=user, owned=owned, left=left)

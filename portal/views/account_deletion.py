"""Deleting one's account."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, url_for
from werkzeug.wrappers import Response

from portal import htmx, sessions
from portal.forms.account import DeletionForm
from portal.models import utcnow
from portal.rules import addresses
from portal.services import account_deletion, memberships
from portal.unit_of_work import session
from portal.views import access, own_password

pages = Blueprint("account_deletion", __name__, url_prefix="/account/delete")

Answer = Response | str | tuple[str, int]


@pages.get("")
def confirm() -> str:
    """What would be lost; or, for owners, what has to be handed over first."""
    return _page(DeletionForm())


@pages.post("")
@own_password.attempts
def delete() -> Answer:
    """Delete the account of somebody who typed its address and knows its password."""
    user, form = access.user(), DeletionForm()
    if not form.validate():
        return _page(form), 422
    if not own_password.is_right(form.present.data):
        form.present.errors = [own_password.WRONG]
        return _page(form), 422
    if addresses.normalized(form.email.data) != user.email_normalized:
        form.email.errors = [f"Type the address of this account exactly: {user.email}"]
        return _page(form), 422

    account_deletion.delete(session(), own_password.credentials(), utcnow())
    answer = htmx.go_to(url_for("auth.login"))
    sessions.sign_out(answer)
    flash("Your account is deleted.", "info")
    return answer


def _page(form: DeletionForm) -> str:
    user = access.user()
    owned = account_deletion.owned(session(), user.id)
    left = memberships.orgs_of(session(), user.id)
    return render_template("account/delete.html", form=form, user=user, owned=owned, left=left)

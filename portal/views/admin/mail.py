"""The outbox: what was sent, what waits and why, and sending again."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.models import MailState, utcnow
from portal.services.mail import outbox
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_mail", __name__, url_prefix="/admin/mail")


@pages.get("/")
def index() -> Response:
    """Every mail, the newest first; a state that makes no sense shows all of them."""
    authorization.require_operator()
    state = None
    with suppress(ValueError):
        state = MailState(request.args.get("state", ""))
    return htmx.page(
        "admin/mail.html",
        live={"counts": "admin/_mail_counts.html"},
        parts={"mails": "admin/_mails.html"},
        outbox=outbox.list_mails(session(), state, request.args.get("page", 1, type=int)),
        state=state,
    )


@pages.post("/<mail_id>/resend")
def resend(mail_id: str) -> Response:
    """Send a mail again, or at once where it waits."""
    operator = authorization.require_operator()
    again = outbox.resend(session(), mail_id, operator, utcnow())
    flash(f"The mail to {again.to} is on its way again.", "info")
    return htmx.see_other(url_for("admin_mail.index"))

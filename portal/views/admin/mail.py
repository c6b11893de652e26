"""Page with outgoing emails and their delivery state. Used by operators to send again and to dismiss failures."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.models import MailState, utcnow
from portal.services.mail import outbox
from portal.views.support import authorization
from portal.web import htmx
from portal.web.templating import plural
from portal.web.unit_of_work import session

pages = Blueprint("admin_mail", __name__, url_prefix="/admin/mail")

TYPE_LABELS = {
    "signup": "Sign-up",
    "reset": "Password reset",
    "change_email": "Email change: confirmation",
    "email_changed": "Email change: notice",
    "password_changed": "Password changed",
    "invite": "Invite",
    "invite_reminder": "Invite: reminder",
    "invite_proof": "Invite: confirmation of the email",
    "member_removed": "Removal from an organization",
    "ownership_offer_sent": "Ownership offer: copy for the owner",
    "ownership_offered": "Ownership offer",
    "ownership_transferred": "Ownership transferred",
    "org_deletion": "Deletion of an organization",
    "update_available": "Update available",
    "updated": "Update finished",
    "update_failed": "Update failed",
    "rollback_failed": "Rollback failed",
    "rollout_stopped": "Rollout stopped",
    "fork_sync": "Fork sync",
    "alerts_paused": "Alerts paused",
    "weekly_summary": "Weekly summary",
}
"""What an email is about, by its template, as operators read it."""


@pages.get("/")
def index() -> Response:
    """Show the emails of one state, the newest first; an unknown state shows all."""
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
        type_labels=TYPE_LABELS,
    )


@pages.post("/<mail_id>/resend")
def resend(mail_id: str) -> Response:
    """Send an email again; a pending email does not wait for its next attempt."""
    operator = authorization.require_operator()
    mail = outbox.resend(session(), mail_id, utcnow(), actor=operator)
    flash(f"Email to {mail.to} queued. It is sent within seconds.", "info")
    return htmx.see_other(url_for("admin_mail.index"))


@pages.post("/dismiss")
def dismiss() -> Response:
    """Dismiss the failed emails that the form names."""
    operator = authorization.require_operator()
    dismissed = outbox.dismiss(session(), request.form.getlist("mail"), actor=operator)
    flash(f"{plural(dismissed, 'email')} dismissed.", "info")
    return htmx.see_other(url_for("admin_mail.index", state=MailState.FAILED))

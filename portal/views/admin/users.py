"""Pages with all user accounts. Used by operators, who can disable accounts and appoint operators."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.account import ConfirmForm
from portal.models import utcnow
from portal.services.account_changes import disabling
from portal.services.accounts import administration, sessions
from portal.services.accounts.administration import AccountFilter
from portal.services.audit import log
from portal.services.orgs import sync_status
from portal.views.support import authorization, reauthentication
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("admin_users", __name__, url_prefix="/admin/users")

_FILTER_LABELS = {
    AccountFilter.ALL: "All users",
    AccountFilter.OPERATORS: "Operators",
    AccountFilter.DISABLED: "Disabled",
}


@pages.get("")
def index() -> Response:
    """Show the users that match the search and the filter; an unknown filter shows all users."""
    authorization.require_operator()
    text, account_filter = request.args.get("q", ""), AccountFilter.ALL
    with suppress(ValueError):
        account_filter = AccountFilter(request.args.get("show", AccountFilter.ALL))
    return htmx.page(
        "admin/users.html",
        parts={"users": "admin/_users.html"},
        listing=administration.search(
            session(), utcnow(), text, account_filter, request.args.get("page", 1, type=int)
        ),
        text=text,
        account_filter=account_filter,
        filter_labels=_FILTER_LABELS,
    )


@pages.get("/<user_id>")
def show(user_id: str) -> str:
    """Show one user with their organizations, sessions and latest events."""
    return _render_user(user_id, ConfirmForm(formdata=None))


def _render_user(user_id: str, grant: ConfirmForm) -> str:
    operator = authorization.require_operator()
    user = administration.get_user(session(), user_id)
    return render_template(
        "admin/user.html",
        user=user,
        grant=grant,
        is_self=user.id == operator.id,
        memberships=administration.list_orgs(session(), user),
        syncs=sync_status.load_for_user(session(), user),
        browsers=sessions.list_active(session(), user.id, utcnow()),
        events=log.list_about_user(session(), user),
    )


@pages.post("/<user_id>/disable")
def disable(user_id: str) -> Response:
    """Disable an account and end all its sessions."""
    user = disabling.disable_account(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _redirect_to(user_id, f"Account disabled. {user.name} is signed out everywhere.")


@pages.post("/<user_id>/enable")
def enable(user_id: str) -> Response:
    """Enable a disabled account."""
    user = disabling.enable_account(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _redirect_to(user_id, f"Account enabled. {user.name} can sign in again.")


@pages.post("/<user_id>/end-sessions")
def end_sessions(user_id: str) -> Response:
    """Sign a user out of every browser."""
    ended = administration.end_sessions(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _redirect_to(user_id, f"Signed out of {ended} browser{'' if ended == 1 else 's'}.")


@pages.post("/<user_id>/operator/grant")
@reauthentication.limit_attempts
def grant_operator(user_id: str) -> Response | tuple[str, int]:
    """Make a user an operator, confirmed with the password of the operator who acts."""
    form = ConfirmForm()
    is_correct = reauthentication.is_password_correct(form.current_password.data)

    if not form.validate():
        return _render_user(user_id, form), 422
    if not is_correct:
        form.current_password.errors = [reauthentication.MISMATCH_MESSAGE]
        return _render_user(user_id, form), 422
    user = administration.grant_operator(session(), user_id, utcnow(), actor=authorization.require_operator())
    reauthentication.require_unchanged_password()
    return _redirect_to(user_id, f"{user.name} is now an operator and must sign in again.")


@pages.post("/<user_id>/operator/revoke")
def revoke_operator(user_id: str) -> Response:
    """Remove the operator rights of a user."""
    user = administration.revoke_operator(session(), user_id, utcnow(), actor=authorization.require_operator())
    return _redirect_to(user_id, f"{user.name} is no longer an operator and must sign in again.")


def _redirect_to(user_id: str, message: str) -> Response:
    flash(message, "info")
    return htmx.see_other(url_for("admin_users.show", user_id=user_id))

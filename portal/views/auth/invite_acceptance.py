"""The invite page for recipients: accept, decline, create an account, or confirm the email first."""

from __future__ import annotations

from enum import StrEnum, auto

from flask import Blueprint, flash, make_response, render_template, request, url_for
from flask_wtf.csrf import CSRFError
from werkzeug.wrappers import Response

from portal.forms.auth import SignupForm
from portal.models import User, utcnow
from portal.password_hashing import hash_password
from portal.services.errors import InvalidError, ServiceError
from portal.services.orgs import invite_acceptance
from portal.services.orgs.invite_acceptance import OpenedInvite, WrongAccountError
from portal.views.support import mail_limits
from portal.views.support.configuration import current_settings
from portal.web import htmx, pending_tokens, session_cookie
from portal.web.extensions import limiter
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("invitation", __name__, url_prefix="/invite")

_PURPOSE = "invite"


class Stage(StrEnum):
    """The next step that the invite page offers."""

    ANSWER = auto()
    WRONG_ACCOUNT = auto()
    SIGN_IN = auto()
    SIGN_UP = auto()
    PROVE = auto()


@pages.get("/<token>")
def follow(token: str) -> Response:
    """Store the token of a followed link and redirect to the invite page. The link stays valid."""
    pending_tokens.store_token(_PURPOSE, token)
    return htmx.see_other(url_for("invitation.show"))


@pages.get("")
def show() -> Response:
    """Show the invite of the link that was followed last."""
    return _render_invite()


@pages.post("/accept")
def accept() -> Response:
    """Join the organization with the signed-in account."""
    visitor = session_cookie.current_visitor()
    if visitor is None:
        return _render_invite(problem="You are signed out. Sign in to join.", status=403)
    try:
        org, joined = invite_acceptance.accept_invite(
            session(), _token(), seen=_seen_revision(), actor=visitor.user, now=utcnow()
        )
    except ServiceError as error:
        return _render_error(error)
    response = htmx.see_other(url_for("org.home", slug=org.slug))
    # A double click sends this form twice. The second request changes nothing, and must not rotate the token that
    # the first one has just set.
    if joined:
        session_cookie.rotate(response)
        flash(f"Welcome to {org.name}.", "info")
    return response


@pages.post("/join")
@limiter.limit("30 per 15 minutes")
def join() -> Response:
    """Create an account for the invited email and join the organization."""
    form = SignupForm()
    with separate_transaction():
        opened = _find_invite()
        email = opened.invite.email if opened and opened.proven and not opened.closed else None
    if email is None:
        return _render_invite(status=409)
    if not form.validate_with_policy(current_settings().product_name, email, form.name.data or ""):
        return _render_invite(form=form, status=422)
    password_hash = hash_password(form.password.data)
    try:
        org, user = invite_acceptance.accept_with_new_account(
            session(), _token(), form.name.data, password_hash, seen=_seen_revision(), now=utcnow()
        )
    except InvalidError as error:
        form.name.errors = [str(error)]
        return _render_invite(form=form, status=422)
    except ServiceError as error:
        return _render_error(error)
    response = htmx.see_other(url_for("org.home", slug=org.slug))
    session_cookie.sign_in(response, user.id)
    flash(f"Welcome to {org.name}, {user.name}.", "info")
    return response


@pages.post("/decline")
def decline() -> Response:
    """Decline the invite, with or without an account."""
    visitor = session_cookie.current_visitor()
    actor = visitor.user if visitor else None
    try:
        invite_acceptance.decline_invite(session(), _token(), seen=_seen_revision(), actor=actor, now=utcnow())
    except ServiceError as error:
        return _render_error(error)
    return htmx.see_other(url_for("invitation.show"))


@pages.post("/proof")
@limiter.limit("10 per hour")
def prove() -> Response:
    """Mail a link to the invited email. The reader of a copied link confirms the email with it."""
    with separate_transaction():
        opened = _find_invite()
        if opened is not None and not opened.closed:
            mail_limits.count_proof(opened.invite.org_id, opened.invite.email)
    try:
        invite_acceptance.mail_proof_link(session(), _token(), utcnow())
    except ServiceError as error:
        return _render_error(error)
    return htmx.see_other(url_for("invitation.mailed"))


@pages.get("/mailed")
def mailed() -> Response:
    """Show where the mail was sent."""
    opened = _find_invite()
    if opened is None or opened.closed:
        return _render_invite()
    return make_response(render_template("auth/invite/mailed.html", opened=opened))


@pages.errorhandler(CSRFError)
def reload_after_session_change(_error: CSRFError) -> Response:
    """Show the invite again after a form of another tab, which was rendered before this browser's session changed.

    A user who accepted in one tab and answers in another one lands on the organization.
    """
    return htmx.see_other(url_for("invitation.show"))


@pages.post("/switch")
def switch() -> Response:
    """Sign out and return to the invite, whose token stays in the visitor's cookie."""
    response = htmx.see_other(url_for("invitation.show"))
    session_cookie.sign_out(response)
    return response


def _token() -> str | None:
    return pending_tokens.get_token(_PURPOSE)


def _seen_revision() -> str:
    return request.form.get("seen", "")


def _find_invite() -> OpenedInvite | None:
    return invite_acceptance.find_by_token(session(), _token(), utcnow())


def _render_error(error: ServiceError) -> Response:
    session().rollback()
    return _render_invite(problem=str(error), status=403 if isinstance(error, WrongAccountError) else 409)


def _render_invite(*, form: SignupForm | None = None, problem: str = "", status: int = 200) -> Response:
    """Render the invite in its current state: open, closed or unknown. Redirect a user who already accepted it.

    Args:
        form: the sign-up form with its errors.
        problem: the error message to show above an open invite.
        status: the HTTP status for an open invite.
    """
    opened = _find_invite()
    visitor = session_cookie.current_visitor()
    if opened is None:
        return make_response(render_template("auth/invite/closed.html", opened=None), 404)
    if visitor and opened.was_accepted_by(visitor.user):
        if problem:
            flash(problem, "error")
        return htmx.see_other(url_for("org.home", slug=opened.org.slug))
    if opened.closed:
        return make_response(render_template("auth/invite/closed.html", opened=opened), 410)
    html = render_template(
        "auth/invite/page.html",
        opened=opened,
        stage=_choose_stage(opened, visitor.user if visitor else None),
        form=form or SignupForm(formdata=None),
        problem=problem,
    )
    return make_response(html, status)


def _choose_stage(opened: OpenedInvite, user: User | None) -> Stage:
    if user is not None:
        return Stage.ANSWER if opened.is_for(user) else Stage.WRONG_ACCOUNT
    if not opened.proven:
        return Stage.PROVE
    return Stage.SIGN_IN if invite_acceptance.has_account(session(), opened) else Stage.SIGN_UP

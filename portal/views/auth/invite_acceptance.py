"""The page of an invite, for the one who got it: accept, decline, make an account, or prove the address first."""

from __future__ import annotations

from enum import StrEnum, auto

from flask import Blueprint, flash, make_response, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.auth import SignupForm
from portal.models import User, utcnow
from portal.password_hashing import hash_password
from portal.services.errors import InvalidError, ServiceError
from portal.services.orgs import invite_acceptance
from portal.services.orgs.invite_acceptance import Invitation, WrongAccountError
from portal.views.support import invite_limits
from portal.views.support.configuration import current_settings
from portal.web import htmx, pending_tokens, session_cookie
from portal.web.extensions import limiter
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("invitation", __name__, url_prefix="/invite")

_PURPOSE = "invite"


class Stage(StrEnum):
    """What the reader can do next."""

    ANSWER = auto()
    WRONG_ACCOUNT = auto()
    SIGN_IN = auto()
    SIGN_UP = auto()
    PROVE = auto()


@pages.get("/<token>")
def follow(token: str) -> Response:
    """Take the token out of the address; nothing is consumed, for mail scanners come here too."""
    pending_tokens.store_token(_PURPOSE, token)
    return htmx.see_other(url_for("invitation.show"))


@pages.get("")
def show() -> Response:
    """The invite behind the link that was followed last."""
    return _page()


@pages.post("/accept")
def accept() -> Response:
    """Join with the account that is signed in."""
    visitor = session_cookie.visitor()
    if visitor is None:
        return _page(problem="You are signed out. Sign in to join.", status=403)
    try:
        org, joined = invite_acceptance.accept_invite(session(), _token(), visitor.user, utcnow(), seen=_seen())
    except ServiceError as error:
        return _refused(error)
    answer = htmx.see_other(url_for("org.home", slug=org.slug))
    # A second click changed nothing, and must not take the session away that the first one was answered with.
    if joined:
        session_cookie.renew(answer)
        flash(f"Welcome to {org.name}.", "info")
    return answer


@pages.post("/join")
@limiter.limit("30 per 15 minutes")
def join() -> Response:
    """Make an account for the invited address, and join with it."""
    form = SignupForm()
    with separate_transaction():
        found = _found()
        email = found.invite.email if found and found.proven and not found.closed else None
    if email is None:
        return _page(status=409)
    if not form.accepts(current_settings().product_name, email, form.name.data or ""):
        return _page(form=form, status=422)
    stored = hash_password(form.password.data)
    try:
        org, user = invite_acceptance.accept_with_new_account(
            session(), _token(), form.name.data, stored, utcnow(), seen=_seen()
        )
    except InvalidError as error:
        form.name.errors = [str(error)]
        return _page(form=form, status=422)
    except ServiceError as error:
        return _refused(error)
    answer = htmx.see_other(url_for("org.home", slug=org.slug))
    session_cookie.sign_in(answer, user.id)
    flash(f"Welcome to {org.name}, {user.name}.", "info")
    return answer


@pages.post("/decline")
def decline() -> Response:
    """Turn the invite down, with an account or without one."""
    found = session_cookie.visitor()
    try:
        invite_acceptance.decline_invite(session(), _token(), found.user if found else None, utcnow(), seen=_seen())
    except ServiceError as error:
        return _refused(error)
    return htmx.see_other(url_for("invitation.show"))


@pages.post("/proof")
@limiter.limit("10 per hour")
def prove() -> Response:
    """Mail a link to the invited address, for the reader of a copied one."""
    with separate_transaction():
        found = _found()
        if found is not None and not found.closed:
            invite_limits.count_proof_mail(found.invite.org_id, found.invite.email)
    try:
        invite_acceptance.mail_proof_link(session(), _token(), utcnow())
    except ServiceError as error:
        return _refused(error)
    return htmx.see_other(url_for("invitation.mailed"))


@pages.get("/mailed")
def mailed() -> Response:
    """Say where the mail went."""
    found = _found()
    if found is None or found.closed:
        return _page()
    return _private(render_template("auth/invite/mailed.html", found=found))


@pages.post("/switch")
def switch() -> Response:
    """Sign out and come back to the invite, which waits meanwhile."""
    answer = htmx.see_other(url_for("invitation.show"))
    session_cookie.sign_out(answer)
    return answer


def _token() -> str | None:
    return pending_tokens.get_token(_PURPOSE)


def _seen() -> str:
    return request.form.get("seen", "")


def _found() -> Invitation | None:
    return invite_acceptance.find_invitation(session(), _token(), utcnow())


def _refused(error: ServiceError) -> Response:
    session().rollback()
    return _page(problem=str(error), status=403 if isinstance(error, WrongAccountError) else 409)


def _page(*, form: SignupForm | None = None, problem: str = "", status: int = 200) -> Response:
    """The invite as it is now: open, answered, or of no use any more."""
    found = _found()
    visitor = session_cookie.visitor()
    if found is None:
        return _private(render_template("auth/invite/closed.html", found=None), 404)
    if visitor and found.joined_by(visitor.user):
        if problem:
            flash(problem, "error")
        return htmx.see_other(url_for("org.home", slug=found.org.slug))
    if found.closed:
        return _private(render_template("auth/invite/closed.html", found=found), 410)
    html = render_template(
        "auth/invite/page.html",
        found=found,
        stage=_stage(found, visitor.user if visitor else None),
        form=form or SignupForm(formdata=None),
        problem=problem,
    )
    return _private(html, status)


def _stage(found: Invitation, user: User | None) -> Stage:
    if user is not None:
        return Stage.ANSWER if found.is_for(user) else Stage.WRONG_ACCOUNT
    if not found.proven:
        return Stage.PROVE
    return Stage.SIGN_IN if invite_acceptance.has_account(session(), found) else Stage.SIGN_UP


def _private(html: str, status: int = 200) -> Response:
    """The page of one reader, whom a cookie tells from others: nobody may keep it."""
    answer = make_response(html, status)
    answer.headers["Cache-Control"] = "no-store"
    return answer

"""Page that invites several people at once: pasted emails, and one line with the result for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response
from flask_limiter import RateLimitExceeded
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.invites import BulkInviteForm
from portal.models import MembershipRole, utcnow
from portal.policy import Action
from portal.rules import email_addresses
from portal.services.errors import InvalidError
from portal.services.orgs import invites
from portal.views.support import authorization, mail_limits
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.unit_of_work import separate_transaction, session

pages = Blueprint("bulk_invites", __name__, url_prefix="/o/<slug>/team/invite-several")

_TOO_MANY_TO_ONE = "Not sent: this person has been sent too many emails. Try again later."
_TOO_MANY = "Not sent: you have sent too many invites. Try again in an hour, or tomorrow."


@dataclass(frozen=True)
class Result:
    """What happened to one email of the form."""

    email: str
    problem: str = ""
    """Why it was not invited; empty if it was."""
    is_repeated: bool = False
    """Whether its pending invite was sent again."""


@pages.get("")
def index(slug: str) -> Response:
    """Show the form."""
    return _page(authorization.require_org(slug, Action.MANAGE_TEAM), BulkInviteForm(formdata=None))


@pages.post("")
def send(slug: str) -> BaseResponse | tuple[BaseResponse, int]:
    """Invite every valid email that the limits allow. The form keeps the others, for correction."""
    form = BulkInviteForm()
    refused: dict[str, str] = {}
    with separate_transaction():
        access = authorization.require_org(slug, Action.MANAGE_TEAM)
        if is_valid := form.validate():
            refused = _find_refused(access, form.list_addresses())

    access = authorization.require_org(slug, Action.MANAGE_TEAM)
    if not is_valid:
        return _page(access, form), 422
    role = MembershipRole(form.role.data)
    results = [
        Result(email, refused[email]) if email in refused else _invite(access, email, role)
        for email in form.list_addresses()
    ]
    form.addresses.data = "\n".join(result.email for result in results if result.problem)
    # The answer contains the results instead of redirecting, because they are shown only once.
    return _page(access, form, results), 422 if all(result.problem for result in results) else 200


def _find_refused(access: OrgAccess, addresses: Sequence[str]) -> dict[str, str]:
    """Count each invite, and return the problem of each email that is not valid or exceeds a limit."""
    refused: dict[str, str] = {}
    exhausted = False
    for email in addresses:
        if problem := email_addresses.find_problem(email):
            refused[email] = problem
        elif exhausted:
            refused[email] = _TOO_MANY
        else:
            try:
                mail_limits.count_invite(access.org.id, email, actor=access.user)
            except RateLimitExceeded as error:
                # A limit of the organization or account refuses the rest, too. Counting on would only lengthen it.
                exhausted = not mail_limits.concerns_recipient(error)
                refused[email] = _TOO_MANY if exhausted else _TOO_MANY_TO_ONE
    return refused


def _invite(access: OrgAccess, email: str, role: MembershipRole) -> Result:
    try:
        with session().begin_nested():  # a refused email must change nothing
            invite = invites.send_invite(session(), access.org, email, role, actor=access.user, now=utcnow())
    except InvalidError as error:
        return Result(email, str(error))
    return Result(invite.email, is_repeated=invite.version > 1)


def _page(access: OrgAccess, form: BulkInviteForm, results: Sequence[Result] = ()) -> Response:
    return htmx.page("org/team/invite_several.html", access=access, org=access.org, form=form, results=results)

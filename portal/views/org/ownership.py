"""Handing an organization over, deleting it, and taking that back."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from portal.forms.orgs import DeleteForm
from portal.models import Bot, utcnow
from portal.policy import Action
from portal.queue import JobName, updates_queue_name
from portal.services.errors import InvalidError
from portal.services.orgs import org_deletion, transfers
from portal.views.support import authorization, reauthentication
from portal.views.support.authorization import OrgAccess
from portal.web import htmx, session_cookie
from portal.web.unit_of_work import enqueue_after_commit, session

pages = Blueprint("ownership", __name__, url_prefix="/o/<slug>")

Answer = Response | str | tuple[str, int]


@pages.post("/transfer")
def offer(slug: str) -> Answer:
    """Offer the organization to one of its people."""
    access = authorization.require_org(slug, Action.TRANSFER_OWNERSHIP)
    transfers.offer_ownership(session(), access.org, request.form.get("user_id", ""), actor=access.user, now=utcnow())
    flash("The offer is made. It stands for three days; nothing changes until it is accepted.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/transfer/withdraw")
def withdraw(slug: str) -> Answer:
    """Take the offer back."""
    access = authorization.require_org(slug, Action.TRANSFER_OWNERSHIP)
    transfers.withdraw_offer(session(), access.org, access.user)
    flash("The offer is taken back.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/transfer/accept")
def accept(slug: str) -> Answer:
    """Become the owner."""
    access = authorization.require_org(slug)
    transfers.accept_ownership(session(), access.org, access.user, utcnow())
    flash(f"{access.org.name} is yours now.", "info")
    answer = htmx.go_to(url_for("org.home", slug=slug))
    # Whoever copied the old session's cookie does not become owner too.
    session_cookie.renew(answer)
    return answer


@pages.post("/transfer/decline")
def decline(slug: str) -> Answer:
    """Turn the offer down."""
    access = authorization.require_org(slug)
    transfers.decline_ownership(session(), access.org, access.user)
    flash("You turned the offer down.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.get("/delete")
def confirm_deletion(slug: str) -> Answer:
    """What would be deleted, and the form that asks for name and password."""
    return _deletion_page(authorization.require_org(slug, Action.DELETE_ORG), DeleteForm())


@pages.post("/delete")
@reauthentication.attempts
def delete(slug: str) -> Answer:
    """Begin the deletion, for an owner who knows the password."""
    form = DeleteForm()
    known = reauthentication.is_password_correct(form.password.data)

    access = authorization.require_org(slug, Action.DELETE_ORG)
    if not form.validate():
        return _deletion_page(access, form), 422
    if not known:
        form.password.errors = [reauthentication.WRONG_PASSWORD]
        return _deletion_page(access, form), 422
    try:
        bots = org_deletion.request_deletion(
            session(), access.org, typed_name=form.name.data, actor=access.user, now=utcnow()
        )
    except InvalidError as error:
        form.name.errors = [str(error)]
        return _deletion_page(access, form), 422
    reauthentication.require_unchanged_password()
    _have_followed(bots)
    flash(f"{access.org.name} is being deleted. You can restore it for seven days.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.post("/restore")
def restore(slug: str) -> Answer:
    """Take the deletion back."""
    access = authorization.require_org(slug, Action.DELETE_ORG)
    _have_followed(org_deletion.restore(session(), access.org, actor=access.user, now=utcnow()))
    flash(f"{access.org.name} is restored; its bots start again.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


def _deletion_page(access: OrgAccess, form: DeleteForm) -> str:
    facts = org_deletion.measure_extent(session(), access.org)
    return render_template("org/delete.html", access=access, org=access.org, form=form, facts=facts)


def _have_followed(bots: Iterable[Bot]) -> None:
    for bot in bots:
        enqueue_after_commit(JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))

"""Transfer of ownership, deletion and restore of an organization."""

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
from portal.views.org import settings as settings_page
from portal.views.support import authorization, reauthentication
from portal.views.support.authorization import OrgAccess
from portal.views.support.configuration import current_settings
from portal.web import htmx, session_cookie
from portal.web.unit_of_work import enqueue_after_commit, session

pages = Blueprint("ownership", __name__, url_prefix="/o/<slug>")

Answer = Response | str | tuple[str, int]


@pages.post("/transfer")
@reauthentication.limit_attempts
def offer(slug: str) -> settings_page.Answer:
    """Offer the ownership to a member, confirmed with the password."""
    is_correct = reauthentication.is_password_correct(request.form.get("password"))

    access = authorization.require_org(slug, Action.TRANSFER_OWNERSHIP)
    form = settings_page.build_transfer_form(access)
    if not form.validate():
        return settings_page.render_page(access, transfer=form), 422
    if not is_correct:
        form.password.errors = [reauthentication.MISMATCH_MESSAGE]
        return settings_page.render_page(access, transfer=form), 422
    transfers.offer_ownership(session(), access.org, form.user_id.data, actor=access.user, now=utcnow())
    reauthentication.require_unchanged_password()
    flash("Offer sent. It is valid for three days; you stay the owner until it is accepted.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/transfer/withdraw")
def withdraw(slug: str) -> Answer:
    """Withdraw the offer."""
    access = authorization.require_org(slug, Action.TRANSFER_OWNERSHIP)
    transfers.withdraw_offer(session(), access.org, actor=access.user)
    flash("Offer withdrawn.", "info")
    return htmx.go_to(url_for("org_settings.show", slug=slug))


@pages.post("/transfer/accept")
def accept(slug: str) -> Answer:
    """Accept the offer and become the owner."""
    access = authorization.require_org(slug)
    max_owned = current_settings().max_owned_orgs
    transfers.accept_ownership(session(), access.org, actor=access.user, now=utcnow(), max_owned=max_owned)
    flash(f"You are now the owner of {access.org.name}.", "info")
    answer = htmx.go_to(url_for("org.home", slug=slug))
    # A copied cookie of the old session must not gain the owner's rights.
    session_cookie.rotate(answer)
    return answer


@pages.post("/transfer/decline")
def decline(slug: str) -> Answer:
    """Decline the offer."""
    access = authorization.require_org(slug)
    transfers.decline_ownership(session(), access.org, actor=access.user)
    flash("Offer declined.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.get("/delete")
def confirm_deletion(slug: str) -> Answer:
    """Show what a deletion affects, and the form that asks for name and password."""
    return _render_deletion_page(authorization.require_org(slug, Action.DELETE_ORG), DeleteForm())


@pages.post("/delete")
@reauthentication.limit_attempts
def delete(slug: str) -> Answer:
    """Start the deletion, confirmed with name and password."""
    form = DeleteForm()
    is_correct = reauthentication.is_password_correct(form.password.data)

    access = authorization.require_org(slug, Action.DELETE_ORG)
    if not form.validate():
        return _render_deletion_page(access, form), 422
    if not is_correct:
        form.password.errors = [reauthentication.MISMATCH_MESSAGE]
        return _render_deletion_page(access, form), 422
    try:
        bots = org_deletion.request_deletion(
            session(), access.org, typed_name=form.name.data, actor=access.user, now=utcnow()
        )
    except InvalidError as error:
        form.name.errors = [str(error)]
        return _render_deletion_page(access, form), 422
    reauthentication.require_unchanged_password()
    _enqueue_desired_states(bots)
    flash(f"{access.org.name} is being deleted. You can restore it for seven days.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.post("/restore")
def restore(slug: str) -> Answer:
    """Restore an organization that is being deleted."""
    access = authorization.require_org(slug, Action.DELETE_ORG)
    _enqueue_desired_states(org_deletion.restore(session(), access.org, actor=access.user, now=utcnow()))
    flash(f"{access.org.name} restored. Its bots are starting again.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


def _render_deletion_page(access: OrgAccess, form: DeleteForm) -> str:
    extent = org_deletion.measure_extent(session(), access.org)
    return render_template("org/delete.html", access=access, org=access.org, form=form, extent=extent)


def _enqueue_desired_states(bots: Iterable[Bot]) -> None:
    for bot in bots:
        enqueue_after_commit(JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))

"""Pages with all organizations. Used by operators, who can manage update preferences and undo a deletion."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, flash, request, url_for
from werkzeug.wrappers import Response

from portal.forms.bot_template import NewBotForm
from portal.forms.fleet_settings import TENANT_MODE_CHOICES
from portal.forms.orgs import LiftForm, UpdatesForm
from portal.models import OrgState, TenantMode, utcnow
from portal.queue import CREATIONS_QUEUE, JobName, updates_queue_name
from portal.services.bots import bot_list, bot_requests, creation, nodes
from portal.services.bots.creation import BotOptions
from portal.services.errors import ConflictError, InvalidError, StaleError
from portal.services.orgs import org_deletion, org_list, update_preferences
from portal.services.syncs import sync_list
from portal.views.support import authorization, configuration
from portal.web import htmx
from portal.web.unit_of_work import enqueue_after_commit, session

pages = Blueprint("admin_orgs", __name__, url_prefix="/admin/orgs")

Answer = Response | tuple[Response, int]

_STATE_LABELS = {
    "": "All but deleted",
    OrgState.ACTIVE: "Active",
    OrgState.DELETING: "Being deleted",
    OrgState.DELETED: "Deleted",
}


@pages.get("")
def index() -> Response:
    """Show the organizations that match the search and the state; an unknown state shows all that are not deleted."""
    authorization.require_operator()
    text, state = request.args.get("q", ""), None
    with suppress(ValueError):
        state = OrgState(request.args.get("state", ""))
    return htmx.page(
        "admin/orgs.html",
        parts={"orgs": "admin/_orgs.html"},
        listing=org_list.search_orgs(session(), text, state, request.args.get("page", 1, type=int)),
        text=text,
        state=state,
        state_labels=_STATE_LABELS,
    )


@pages.get("/<org_id>")
def show(org_id: str) -> Answer:
    """Show one organization."""
    authorization.require_operator()
    return _page(org_id)


@pages.post("/<org_id>/override")
def override(org_id: str) -> Answer:
    """Set the update preferences of an organization; its people then see "managed by your provider"."""
    operator = authorization.require_operator()
    org = org_list.get_org(session(), org_id).org
    form = UpdatesForm()
    if not form.validate():
        return _page(org_id, form), 422
    try:
        update_preferences.require_current_version(session(), org, form.version.data)
    except StaleError as error:
        return _page(org_id, refusal=error.for_operators), 409
    update_preferences.set_override(
        session(), org, TenantMode(form.mode.data), form.hour.data, actor=operator, now=utcnow()
    )
    flash(f"Updates of {org.name} are managed by operators.", "info")
    return htmx.see_other(url_for("admin_orgs.show", org_id=org_id))


@pages.post("/<org_id>/lift")
def lift(org_id: str) -> Answer:
    """Return control over updates to the organization."""
    operator = authorization.require_operator()
    org = org_list.get_org(session(), org_id).org
    form = LiftForm()
    if not form.validate():
        return _page(org_id, refusal=" ".join(form.version.errors)), 422
    try:
        update_preferences.require_current_version(session(), org, form.version.data)
    except StaleError as error:
        return _page(org_id, refusal=error.for_operators), 409
    update_preferences.lift_override(session(), org, actor=operator, now=utcnow())
    flash(f"{org.name} manages its own updates again.", "info")
    return htmx.see_other(url_for("admin_orgs.show", org_id=org_id))


@pages.post("/<org_id>/restore")
def restore(org_id: str) -> Answer:
    """Undo the deletion of an organization and start its bots."""
    operator = authorization.require_operator()
    org = org_list.get_org(session(), org_id).org
    for bot in org_deletion.restore_as_operator(session(), org, actor=operator, now=utcnow()):
        enqueue_after_commit(JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))
    flash(f"{org.name} is restored. Its bots are starting.", "info")
    return htmx.see_other(url_for("admin_orgs.show", org_id=org_id))


@pages.post("/<org_id>/bots")
def create_bot(org_id: str) -> Answer:
    """Create a bot of an organization from the template."""
    operator = authorization.require_operator()
    org = org_list.get_org(session(), org_id).org
    form = NewBotForm()
    form.offer_nodes([node.name for node in nodes.list_nodes(session())])
    if not form.validate():
        return _page(org_id, new_bot=form), 422
    options = BotOptions(
        node=nodes.get_by_name(session(), form.node.data) if form.node.data else None,
        name=form.name.data or None,
        subdomain=form.subdomain.data or None,
    )
    try:
        allowlist = configuration.current_allowlist()
        bot = creation.create_bot(session(), allowlist, org, options, now=utcnow(), actor=operator)
    except (ConflictError, InvalidError) as error:
        session().rollback()
        status = 422 if isinstance(error, InvalidError) else 409
        return _page(org_id, new_bot=form, bot_refusal=str(error)), status
    enqueue_after_commit(JobName.CREATE_BOT, bot.id, queue=CREATIONS_QUEUE)
    flash(f"{bot.name} is being created.", "info")
    return htmx.see_other(url_for("bot.page", slug=org.slug, bot_id=bot.id))


def _page(
    org_id: str,
    form: UpdatesForm | None = None,
    refusal: str = "",
    *,
    new_bot: NewBotForm | None = None,
    bot_refusal: str = "",
) -> Response:
    row = org_list.get_org(session(), org_id)
    new_bot = new_bot or NewBotForm(None)
    new_bot.offer_nodes([node.name for node in nodes.list_nodes(session())])
    stored = row.preferences
    # A posted form is shown again only to display its errors; otherwise the page shows what is stored.
    shown = form or UpdatesForm(formdata=None, mode=str(stored.mode), hour=stored.hour_utc, version=stored.version)
    shown.mode.choices = TENANT_MODE_CHOICES
    lift = LiftForm(formdata=None, version=stored.version)
    return htmx.page(
        "admin/org.html",
        row=row,
        org=row.org,
        syncs=sync_list.load_for_org(session(), row.org),
        form=shown,
        lift=lift,
        refusal=refusal,
        bots=bot_list.list_for_org(session(), row.org),
        new_bot=new_bot,
        bot_refusal=bot_refusal,
        waits_for_bot=bot_requests.find_request(session(), row.org),
    )

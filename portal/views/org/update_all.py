"""Page "Update all": owners and admins update several bots of their organization at once."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.models import FleetMode, Trigger, utcnow
from portal.policy import Action
from portal.rules.roles import Role
from portal.services import fleet_settings
from portal.services.errors import ConflictError, InvalidError
from portal.services.rollouts import org_updates
from portal.views.support import authorization, configuration
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.templating import plural
from portal.web.unit_of_work import session

pages = Blueprint("update_all", __name__, url_prefix="/o/<slug>/updates")


@pages.get("")
def index(slug: str) -> Response:
    """Show the bots that can be updated, with their versions."""
    return _page(authorization.require_org(slug, Action.UPDATE_NOW))


@pages.post("")
def start(slug: str) -> BaseResponse | tuple[BaseResponse, int]:
    """Update the chosen bots to the releases that were shown, or none of them."""
    access = authorization.require_org(slug, Action.UPDATE_NOW)
    digests = {bot_id: request.form.get(f"digest-{bot_id}", "") for bot_id in request.form.getlist("bots")}
    try:
        names = org_updates.update_bots(
            session(),
            configuration.current_allowlist(),
            digests,
            utcnow(),
            org=access.org,
            actor=access.user,
            trigger=Trigger.OPERATOR if access.roles == {Role.OPERATOR} else Trigger.TENANT,
        )
    except (ConflictError, InvalidError) as error:
        session().rollback()
        refusal = error.for_operators if access.user.is_platform_admin else str(error)
        return _page(access, refusal), 409 if isinstance(error, ConflictError) else 422
    flash(f"{plural(len(names), 'update')} started: {', '.join(names)}.", "info")
    return htmx.see_other(url_for("org.home", slug=slug))


def _page(access: OrgAccess, refusal: str = "") -> Response:
    return htmx.page(
        "org/update_all.html",
        access=access,
        org=access.org,
        lines=org_updates.list_updatable(session(), access.org),
        paused=fleet_settings.get_settings(session()).mode is FleetMode.PAUSED,
        refusal=refusal,
    )

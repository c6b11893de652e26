"""Home page of an organization, with its bots."""

from __future__ import annotations

from functools import cache, partial

from flask import Blueprint, Response

from portal.models import utcnow
from portal.services.bots import bot_list, bot_requests, org_version
from portal.services.releases import offers
from portal.services.rollouts import scheduled_updates
from portal.views.support import authorization
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("org", __name__, url_prefix="/o/<slug>")


@pages.get("/")
def home(slug: str) -> Response:
    """Show each bot as a card with state, version, badge and the progress of an update."""
    access = authorization.require_org(slug)
    now = utcnow()
    version = org_version.read_version(session(), access.org, access.user, access.roles, now)
    if htmx.is_unchanged(version):
        return htmx.unchanged()
    lines = bot_list.list_for_org(session(), access.org)
    return htmx.page(
        "org/home.html",
        live={"bots": "org/_bots.html"},
        access=access,
        org=access.org,
        waits_for_bot=bot_requests.find_request(session(), access.org) is not None,
        lines=lines,
        schedule=cache(partial(scheduled_updates.map_windows, session(), lines, now)),
        snoozes=offers.load_snoozes(session(), access.user, now),
        data_version=version,
    )

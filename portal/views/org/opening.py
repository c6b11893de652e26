"""The page that takes a browser from the portal to a bot's host, with a ticket. Used by members."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Blueprint, abort, render_template, request
from werkzeug.wrappers import Response

from portal.models import utcnow
from portal.policy import Action
from portal.rules.bot_paths import ENTER_PATH, is_local_path
from portal.services.gateway import entering
from portal.views.support import authorization
from portal.views.support.configuration import current_settings
from portal.web import htmx
from portal.web.session_cookie import require_visitor
from portal.web.unit_of_work import separate_write_transaction

pages = Blueprint("opening", __name__)


@pages.get("/open/<subdomain>")
def open_bot(subdomain: str) -> Response | str:
    """Give the browser a ticket for the bot. Without the gateway's `state`, send the browser to the gateway first.

    The response is a page and not a redirect, because browsers refuse redirects to other hosts after a form, such as
    the one for signing in. Its ticket is written although this is a GET request: it changes nothing that is visible.
    """
    if request.headers.get("Sec-Fetch-Dest", "document") != "document":
        abort(403, "A bot can only be opened in a tab. Open its address there.")
    _, bot = authorization.require_bot_by_subdomain(subdomain, Action.OPEN_BOT)
    url = current_settings().bot_url(bot.subdomain)
    state = request.args.get("state", "")
    if url is None:
        abort(404)
    if not entering.is_state(state):
        return htmx.see_other(f"{url}/")
    with separate_write_transaction() as writing:
        ticket = entering.mint_ticket(writing, bot.id, require_visitor().session_hash, state, utcnow())
    path = request.args.get("path", "")
    is_usable = len(path) <= entering.MAX_PATH and is_local_path(path)
    query = urlencode({"ticket": ticket, "path": path if is_usable else "/"})
    return render_template("org/opening.html", bot=bot, target=f"{url}{ENTER_PATH}?{query}")

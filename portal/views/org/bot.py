"""One bot: how it is, what happened to it, and the update it may take."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.releases import ReasonForm
from portal.models import Bot, FleetMode, Trigger, utcnow
from portal.policy import Action, Role
from portal.services import fleet_settings
from portal.services.audit import log
from portal.services.bots import attention, bot_list
from portal.services.releases import offers, releases
from portal.services.rollouts import history, rollouts
from portal.services.rollouts.rollouts import NewerReleaseError
from portal.views.support import authorization, configuration
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.unit_of_work import session

pages = Blueprint("bot", __name__, url_prefix="/o/<slug>/bots/<bot_id>")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def page(slug: str, bot_id: str) -> Answer:
    """Status, events, what no snapshot protects, and the latest updates."""
    return _page(*authorization.require_bot(slug, bot_id), ReasonForm(None))


@pages.post("/clear")
def clear(slug: str, bot_id: str) -> Answer:
    """Take it into updates again: an operator has put it right."""
    operator = authorization.require_operator()
    access, bot = authorization.require_bot(slug, bot_id)
    form = ReasonForm()
    if not form.validate():
        return _page(access, bot, form), 422
    attention.clear_attention(session(), bot, form.reason.data, operator)
    flash(f"{bot.name} takes part in updates again.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.get("/changelog")
def changelog(slug: str, bot_id: str) -> Answer:
    """What is new in the update this bot may take."""
    return _changelog(*authorization.require_bot(slug, bot_id))


@pages.post("/update")
def update_now(slug: str, bot_id: str) -> Answer:
    """Update to the release whose changelog was shown. If another came out meanwhile, show that one instead."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    by_provider = access.roles == {Role.OPERATOR}
    try:
        rollouts.update_now(
            session(),
            configuration.current_allowlist(),
            bot=bot,
            digest=request.form.get("digest", ""),
            actor=access.user,
            trigger=Trigger.OPERATOR if by_provider else Trigger.TENANT,
        )
    except NewerReleaseError as error:
        return _changelog(access, bot, str(error)), 409
    flash(f"{bot.name} is being updated.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.post("/later")
def later(slug: str, bot_id: str) -> Answer:
    """Do not ask again for a while; the badge stays."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    release = releases.find_update(session(), bot)
    if release is not None and request.form.get("digest") in release.digests:
        offers.snooze(session(), bot, access.user, release, utcnow())
        flash(f"{release.version} is offered again in 48 hours.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


def _page(access: OrgAccess, bot: Bot, form: ReasonForm) -> Response:
    (line,) = bot_list.build_rows(session(), [bot])
    return htmx.page(
        "org/bot/page.html",
        live={"status": "org/bot/_status.html"},
        parts={"history": "org/bot/_history.html"},
        access=access,
        org=access.org,
        bot=bot,
        line=line,
        put_off=offers.load_snoozes(session(), access.user, utcnow()),
        form=form,
        updates=history.list_updates(session(), bot),
        happenings=log.list_for_bot(session(), bot),
    )


def _changelog(access: OrgAccess, bot: Bot, refusal: str = "") -> Response:
    return htmx.page(
        "org/bot/changelog.html",
        parts={"dialog": "org/bot/_changelog.html"},
        access=access,
        org=access.org,
        bot=bot,
        offer=offers.find_offer(session(), bot),
        paused=fleet_settings.get_settings(session()).mode is FleetMode.PAUSED,
        refusal=refusal,
    )

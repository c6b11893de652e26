"""Pages with one bot: status, history, changelog, "Update now" and "Later". Used by members and operators."""

from __future__ import annotations

from flask import Blueprint, Response, flash, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from portal.forms.bot_template import RemoveBotForm
from portal.forms.releases import ReasonForm
from portal.models import Bot, FleetMode, Trigger, utcnow
from portal.policy import Action
from portal.queue import JobName, updates_queue_name
from portal.rules.roles import Role
from portal.services import fleet_settings
from portal.services.audit import log
from portal.services.bots import attention, bot_list, creation, removal
from portal.services.releases import offers, releases
from portal.services.rollouts import history, rollouts
from portal.services.rollouts.rollouts import NewerReleaseError
from portal.services.syncs import sync_list
from portal.views.support import authorization, configuration
from portal.views.support.authorization import OrgAccess
from portal.web import htmx
from portal.web.unit_of_work import enqueue_after_commit, session

pages = Blueprint("bot", __name__, url_prefix="/o/<slug>/bots/<bot_id>")

Answer = BaseResponse | tuple[BaseResponse, int]


@pages.get("")
def page(slug: str, bot_id: str) -> Answer:
    """Show status, latest updates, events and the paths that snapshots do not protect."""
    return _bot_page(*authorization.require_bot(slug, bot_id))


@pages.post("/clear")
def clear(slug: str, bot_id: str) -> Answer:
    """Allow updates of a bot again after an operator has fixed it."""
    operator = authorization.require_operator()
    access, bot = authorization.require_bot(slug, bot_id)
    form = ReasonForm()
    if not form.validate():
        return _bot_page(access, bot, form=form), 422
    attention.clear_attention(session(), bot, form.reason.data, actor=operator)
    flash(f"{bot.name} can be updated again.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.post("/retry-creation")
def retry_creation(slug: str, bot_id: str) -> Answer:
    """Try again to create the container of a bot, with the current template."""
    operator = authorization.require_operator()
    _, bot = authorization.require_bot(slug, bot_id)
    allowlist = configuration.current_allowlist()
    creation.retry_creation(session(), allowlist, bot, now=utcnow(), actor=operator)
    _enqueue(JobName.CREATE_BOT, bot)
    flash(f"{bot.name} is being created again.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.post("/remove")
def remove(slug: str, bot_id: str) -> Answer:
    """Stop a bot and start the grace period of its removal."""
    operator = authorization.require_operator()
    access, bot = authorization.require_bot(slug, bot_id)
    form = RemoveBotForm()
    if not form.validate():
        return _bot_page(access, bot, removal_form=form), 422
    removal.request_removal(session(), bot, keep_data=form.keeps_data, now=utcnow(), actor=operator)
    _enqueue(JobName.APPLY_DESIRED_STATE, bot)
    flash(f"{bot.name} is being removed. You can restore it for 7 days.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.post("/restore")
def restore(slug: str, bot_id: str) -> Answer:
    """Cancel the removal of a bot within its grace period."""
    operator = authorization.require_operator()
    _, bot = authorization.require_bot(slug, bot_id)
    removal.restore_bot(session(), bot, now=utcnow(), actor=operator)
    _enqueue(JobName.APPLY_DESIRED_STATE, bot)
    flash(f"{bot.name} is restored.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.get("/changelog")
def changelog(slug: str, bot_id: str) -> Answer:
    """Show the changelog of the update that is available for this bot."""
    return _changelog_page(*authorization.require_bot(slug, bot_id))


@pages.post("/update")
def update_now(slug: str, bot_id: str) -> Answer:
    """Update to the release whose changelog was shown; if a newer one exists, show its changelog instead."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    try:
        rollouts.update_now(
            session(),
            configuration.current_allowlist(),
            utcnow(),
            bot=bot,
            digest=request.form.get("digest", ""),
            actor=access.user,
            trigger=Trigger.OPERATOR if access.roles == {Role.OPERATOR} else Trigger.TENANT,
        )
    except NewerReleaseError as error:
        return _changelog_page(access, bot, str(error)), 409
    flash(f"Update of {bot.name} started.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.post("/later")
def later(slug: str, bot_id: str) -> Answer:
    """Postpone the reminder of this update for the visitor; the badge stays."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    release = releases.find_update(session(), bot)
    if release is not None and request.form.get("digest") in release.digests:
        offers.snooze(session(), bot, access.user, release, utcnow())
        flash(f"Reminder for {release.version} in 2 days.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


def _enqueue(job: JobName, bot: Bot) -> None:
    enqueue_after_commit(job, bot.id, queue=updates_queue_name(bot.node_id))


def _bot_page(
    access: OrgAccess, bot: Bot, form: ReasonForm | None = None, removal_form: RemoveBotForm | None = None
) -> Response:
    (row,) = bot_list.build_rows(session(), [bot])
    (members,) = sync_list.load_rows(session(), [bot])
    return htmx.page(
        "org/bot/page.html",
        live={"status": "org/bot/_status.html"},
        parts={"history": "org/bot/_history.html"},
        access=access,
        org=access.org,
        bot=bot,
        line=row,
        members=members,
        snoozes=offers.load_snoozes(session(), access.user, utcnow()),
        form=form or ReasonForm(None),
        removal=removal_form or RemoveBotForm(None),
        updates=history.list_updates(session(), bot),
        events=log.list_for_bot(session(), bot),
    )


def _changelog_page(access: OrgAccess, bot: Bot, refusal: str = "") -> Response:
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

"""Pages with one bot: status, history, changelog, updates, start, stop, removal. Used by members and operators."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from flask import Blueprint, Response, current_app, flash, request, url_for
from redis import Redis
from werkzeug.wrappers import Response as BaseResponse

from portal import live_readings
from portal.forms.bot_operation import OperationForm
from portal.forms.bot_template import RemoveBotForm
from portal.forms.releases import ReasonForm
from portal.live_readings import Reading
from portal.models import Bot, BotPhase, FleetMode, Trigger, utcnow
from portal.policy import Action
from portal.queue import CREATIONS_QUEUE, JobName, updates_queue_name
from portal.rules.roles import Role
from portal.services import fleet_settings
from portal.services.audit import log
from portal.services.bots import attention, bot_list, creation, removal, start_stop, state_changes
from portal.services.bots.start_stop import Operation
from portal.services.errors import ConflictError, InvalidError
from portal.services.releases import offers, releases
from portal.services.releases.offers import Reminder
from portal.services.rollouts import (
    downtimes,
    failed_rollbacks,
    history,
    rollouts,
    scheduled_updates,
    skipped_releases,
)
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


@pages.post("/recover")
def recover(slug: str, bot_id: str) -> Answer:
    """Let a worker continue the failed rollback of a bot."""
    operator = authorization.require_operator()
    _, bot = authorization.require_bot(slug, bot_id)
    try:
        update = failed_rollbacks.request(session(), bot, now=utcnow(), actor=operator)
    except ConflictError as error:
        return _refuse(slug, bot_id, error)
    enqueue_after_commit(JobName.UPDATE_BOT, update.id, queue=updates_queue_name(bot.node_id))
    flash(f"The rollback of {bot.name} is being continued.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.post("/retry-creation")
def retry_creation(slug: str, bot_id: str) -> Answer:
    """Try again to create the container of a bot, with the current template."""
    operator = authorization.require_operator()
    _, bot = authorization.require_bot(slug, bot_id)
    allowlist = configuration.current_allowlist()
    creation.retry_creation(session(), allowlist, bot, now=utcnow(), actor=operator)
    enqueue_after_commit(JobName.CREATE_BOT, bot.id, queue=CREATIONS_QUEUE)
    flash(f"{bot.name} is being created again.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.post("/start")
def start(slug: str, bot_id: str) -> Answer:
    """Start a stopped bot."""
    return _request_operation(slug, bot_id, Operation.START, "is starting")


@pages.post("/stop")
def stop(slug: str, bot_id: str) -> Answer:
    """Stop a bot until someone starts it again."""
    return _request_operation(slug, bot_id, Operation.STOP, "is stopping")


@pages.post("/restart")
def restart(slug: str, bot_id: str) -> Answer:
    """Stop a bot and start it again."""
    return _request_operation(slug, bot_id, Operation.RESTART, "is restarting")


@pages.post("/remove")
def remove(slug: str, bot_id: str) -> Answer:
    """Stop a bot and start the grace period of its removal."""
    access, bot = authorization.require_bot(slug, bot_id, Action.OPERATE_BOTS)
    form = RemoveBotForm()
    form.require_name(bot.name)
    if not form.validate():
        return _bot_page(access, bot, removal_form=form), 422
    try:
        removal.request_removal(session(), bot, keep_data=form.keeps_data, now=utcnow(), actor=access.user)
    except ConflictError as error:
        return _refuse(slug, bot_id, error)
    _enqueue_desired_state(bot)
    flash(f"{bot.name} is being removed. You can restore it for 7 days.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


@pages.post("/restore")
def restore(slug: str, bot_id: str) -> Answer:
    """Cancel the removal of a bot within its grace period."""
    access, bot = authorization.require_bot(slug, bot_id, Action.OPERATE_BOTS)
    try:
        removal.restore_bot(session(), bot, now=utcnow(), actor=access.user)
    except ConflictError as error:
        return _refuse(slug, bot_id, error)
    _enqueue_desired_state(bot)
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
    """Remind the visitor of this update tomorrow or next week; the badge stays."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    reminder = request.form.get("reminder", "")
    if reminder not in set(Reminder):
        raise InvalidError("Choose when to be reminded.")
    release = releases.find_update(session(), bot)
    if release is not None and request.form.get("digest") in release.digests:
        offers.snooze(session(), bot, access.user, release, Reminder(reminder), now=utcnow())
        flash(f"Reminder for {release.version} {reminder.replace('_', ' ')}.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.post("/skip")
def skip(slug: str, bot_id: str) -> Answer:
    """Skip the release whose changelog was shown; if a newer one exists, show its changelog instead."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    try:
        release = skipped_releases.skip(session(), bot, request.form.get("digest", ""), actor=access.user)
    except NewerReleaseError as error:
        return _changelog_page(access, bot, str(error)), 409
    except ConflictError as error:
        return _refuse(slug, bot_id, error)
    flash(f"{bot.name} skips {release.version}. The next version is offered again.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


@pages.post("/end-skip")
def end_skip(slug: str, bot_id: str) -> Answer:
    """Offer the skipped release again."""
    access, bot = authorization.require_bot(slug, bot_id, Action.UPDATE_NOW)
    try:
        skipped_releases.end_skip(session(), bot, actor=access.user)
    except ConflictError as error:
        return _refuse(slug, bot_id, error)
    flash(f"The update of {bot.name} is offered again.", "info")
    return htmx.go_to(url_for("org.home", slug=slug))


def _request_operation(slug: str, bot_id: str, operation: Operation, progress: str) -> Answer:
    access, bot = authorization.require_bot(slug, bot_id, Action.OPERATE_BOTS)
    form = OperationForm()
    if not form.validate():
        return _bot_page(access, bot, refusal="Use at most 200 characters for the reason."), 422
    try:
        start_stop.request(session(), bot, operation, now=utcnow(), actor=access.user, reason=form.reason.data or "")
    except ConflictError as error:
        return _refuse(slug, bot_id, error)
    _enqueue_desired_state(bot)
    flash(f"{bot.name} {progress}.", "info")
    return htmx.see_other(url_for("bot.page", slug=slug, bot_id=bot_id))


def _refuse(slug: str, bot_id: str, error: ConflictError) -> Answer:
    """Show the current state of a bot, which has changed since the page was opened, and why a request was refused."""
    session().rollback()
    access, bot = authorization.require_bot(slug, bot_id)
    refusal = error.for_operators if access.user.is_platform_admin else str(error)
    return _bot_page(access, bot, refusal=refusal), 409


def _enqueue_desired_state(bot: Bot) -> None:
    enqueue_after_commit(JobName.APPLY_DESIRED_STATE, bot.id, queue=updates_queue_name(bot.node_id))


def _bot_page(
    access: OrgAccess,
    bot: Bot,
    *,
    form: ReasonForm | None = None,
    removal_form: RemoveBotForm | None = None,
    refusal: str = "",
) -> Response:
    (row,) = bot_list.build_rows(session(), [bot])
    (members,) = sync_list.load_rows(session(), [bot])
    return htmx.page(
        "org/bot/page.html",
        live={
            "status": "org/bot/_status.html",
            "attention": "org/bot/_attention.html",
            "manage": "org/bot/_manage.html",
            "resource_use": "org/bot/_resource_use.html",
        },
        # Only a part that is rendered loads what it shows.
        parts={
            "health": "org/bot/_health.html",
            "history": "org/bot/_history.html",
            "about": "org/bot/_about.html",
        },
        access=access,
        org=access.org,
        bot=bot,
        line=row,
        members=members,
        snoozes=offers.load_snoozes(session(), access.user, utcnow()),
        schedule=cache(partial(scheduled_updates.map_windows, session(), [row], utcnow())),
        form=form or ReasonForm(None),
        removal=removal_form or RemoveBotForm(None),
        refusal=refusal,
        continuing=failed_rollbacks.is_continuing(session(), bot),
        rollback_refusal=failed_rollbacks.find_refusal(session(), bot),
        restorable=removal.is_restorable(bot, utcnow()),
        operations=start_stop.list_possible(session(), bot),
        use=partial(_load_resource_use, bot),
        data_size=partial(history.find_data_size, session(), bot),
        health=partial(state_changes.load_history, session(), bot, utcnow()),
        updates=partial(history.list_updates, session(), bot),
        events=partial(log.list_for_bot, session(), bot),
        origin=partial(log.list_origin, session(), bot),
    )


def _load_resource_use(bot: Bot) -> dict[str, Any] | None:
    """Return the latest reading of the resource use of a bot, and request the next one."""
    redis: Redis = current_app.extensions["redis"]
    if bot.phase is BotPhase.ACTIVE and bot.container_id is not None:
        live_readings.request(redis, Reading.RESOURCE_USE, bot.id)
    return live_readings.load(redis, Reading.RESOURCE_USE, bot.id)


def _changelog_page(access: OrgAccess, bot: Bot, refusal: str = "") -> Response:
    return htmx.page(
        "org/bot/changelog.html",
        parts={"dialog": "org/bot/_changelog.html"},
        access=access,
        org=access.org,
        bot=bot,
        offer=offers.find_offer(session(), bot),
        downtime=downtimes.expect_downtime(session(), bot),
        paused=fleet_settings.get_settings(session()).mode is FleetMode.PAUSED,
        refusal=refusal,
    )

"""Mails about updates: one is available, bots were updated or not, a bot or a rollout needs a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import Bot, BotUpdate, Org, OrgState, Release, Rollout, RolloutState, UpdateState
from portal.services.rollouts import notifications, progress


def _update_available(context: EmailContext) -> Email:
    org, release = _org(context), context.row(Release, "release_id")
    waiting = notifications.list_waiting_bots(context.session, release, org.id)
    if not waiting:
        raise Obsolete("No bot of the organization waits for this release any more.")
    product = context.settings.product_name
    names = {"org": org.name, "bots": _listed([bot.name for bot in waiting])}
    facts = {**_release(release), "link": context.link(f"/o/{org.slug}/"), "many": len(waiting) > 1}
    return Email("update_available", f"A new update is available for your {product}", names, facts)


def _outcome(context: EmailContext) -> Email:
    org, rollout = _org(context), context.row(Rollout, "rollout_id")
    updates = _updates(context, org, rollout)
    updated = [update for update in updates if update.state is UpdateState.UPDATED]
    back = [update for update in updates if update.state in {UpdateState.FAILED, UpdateState.ROLLED_BACK}]
    stuck = [update for update in updates if update.state is UpdateState.NEEDS_ATTENTION]
    product = context.settings.product_name
    subject = f"Your {product} was updated. Here's what's new" if updated else f"Your {product} could not be updated"
    names = {
        "org": org.name,
        "updated": _names(updated),
        "back": _names(back),
        "stuck": _names(stuck),
    }
    facts = {**_release(rollout.release), "link": context.link(f"/o/{org.slug}/")}
    return Email(context.mail.template, subject, names, facts)


def _rollback_failed(context: EmailContext) -> Email:
    bot: Bot = context.row(BotUpdate, "update_id").bot
    if bot.needs_attention is None:
        raise Obsolete("Somebody has looked after the bot before the mail could be sent.")
    facts = {"instructions": bot.needs_attention, "link": context.link(f"/o/{bot.org.slug}/bots/{bot.id}")}
    names = {"bot": bot.name, "org": bot.org.name, "node": bot.node.name}
    return Email("rollback_failed", f"{bot.name} of {bot.org.name} needs a person", names, facts)


def _rollout_stopped(context: EmailContext) -> Email:
    rollout = context.row(Rollout, "rollout_id")
    if rollout.state not in {RolloutState.PAUSED, RolloutState.ABORTED}:
        raise Obsolete("The rollout went on before the mail could be sent.")
    names = {
        "reason": rollout.reason or "",
        "progress": progress.summarize(context.session, rollout, context.now).words,
    }
    facts = {
        "version": rollout.release.version,
        "state": str(rollout.state),
        "quarantined": rollout.release.quarantined_at is not None,
        "link": context.link(f"/admin/rollouts/{rollout.id}"),
    }
    return Email("rollout_stopped", f"The rollout of {rollout.release.version} was {rollout.state}", names, facts)


COMPOSERS: dict[str, Composer] = {
    "update_available": _update_available,
    "updated": _outcome,
    "update_failed": _outcome,
    "rollback_failed": _rollback_failed,
    "rollout_stopped": _rollout_stopped,
}
"""Context: `org_id` with `release_id` or `rollout_id`; for the last two `update_id` and `rollout_id` alone."""


def _org(context: EmailContext) -> Org:
    org = context.row(Org, "org_id")
    if org.state is not OrgState.ACTIVE:
        raise Obsolete("The organization is being deleted.")
    return org


def _updates(context: EmailContext, org: Org, rollout: Rollout) -> Sequence[BotUpdate]:
    query = sa.select(BotUpdate).join(BotUpdate.bot).where(BotUpdate.rollout_id == rollout.id, Bot.org_id == org.id)
    return context.session.scalars(query.order_by(Bot.name)).all()


def _release(release: Release) -> dict[str, Any]:
    sections = release.changelog["sections"] if release.changelog else []
    return {"version": release.version, "sections": sections}


def _names(updates: Sequence[BotUpdate]) -> str:
    return _listed([update.bot.name for update in updates])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)

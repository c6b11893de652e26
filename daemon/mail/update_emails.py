"""Mails about updates: one is available, bots were updated or not, a bot or a rollout needs a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from daemon.mail.emails import Composer, Desk, Letter, NoReason
from portal.models import Bot, BotUpdate, Org, OrgState, Release, Rollout, RolloutState, UpdateState
from portal.services.rollouts import notifications, progress


def _update_available(desk: Desk) -> Letter:
    org, release = _org(desk), desk.row(Release, "release_id")
    waiting = notifications.waiting_for(desk.session, release, org.id)
    if not waiting:
        raise NoReason("No bot of the organization waits for this release any more.")
    product = desk.settings.product_name
    names = {"org": org.name, "bots": _listed([bot.name for bot in waiting])}
    facts = {**_release(release), "link": desk.link(f"/o/{org.slug}/"), "many": len(waiting) > 1}
    return Letter("update_available", f"A new update is available for your {product}", names, facts)


def _outcome(desk: Desk) -> Letter:
    org, rollout = _org(desk), desk.row(Rollout, "rollout_id")
    updates = _updates(desk, org, rollout)
    updated = [update for update in updates if update.state is UpdateState.UPDATED]
    back = [update for update in updates if update.state in {UpdateState.FAILED, UpdateState.ROLLED_BACK}]
    stuck = [update for update in updates if update.state is UpdateState.NEEDS_ATTENTION]
    product = desk.settings.product_name
    subject = f"Your {product} was updated. Here's what's new" if updated else f"Your {product} could not be updated"
    names = {
        "org": org.name,
        "updated": _names(updated),
        "back": _names(back),
        "stuck": _names(stuck),
    }
    facts = {**_release(rollout.release), "link": desk.link(f"/o/{org.slug}/")}
    return Letter(desk.mail.template, subject, names, facts)


def _rollback_failed(desk: Desk) -> Letter:
    bot: Bot = desk.row(BotUpdate, "update_id").bot
    if bot.needs_attention is None:
        raise NoReason("Somebody has looked after the bot before the mail could be sent.")
    facts = {"instructions": bot.needs_attention, "link": desk.link(f"/o/{bot.org.slug}/bots/{bot.id}")}
    names = {"bot": bot.name, "org": bot.org.name, "node": bot.node.name}
    return Letter("rollback_failed", f"{bot.name} of {bot.org.name} needs a person", names, facts)


def _rollout_stopped(desk: Desk) -> Letter:
    rollout = desk.row(Rollout, "rollout_id")
    if rollout.state not in {RolloutState.PAUSED, RolloutState.ABORTED}:
        raise NoReason("The rollout went on before the mail could be sent.")
    names = {"reason": rollout.reason or "", "progress": progress.summary(desk.session, rollout, desk.now).words}
    facts = {
        "version": rollout.release.version,
        "state": str(rollout.state),
        "quarantined": rollout.release.quarantined_at is not None,
        "link": desk.link(f"/admin/rollouts/{rollout.id}"),
    }
    return Letter("rollout_stopped", f"The rollout of {rollout.release.version} was {rollout.state}", names, facts)


COMPOSERS: dict[str, Composer] = {
    "update_available": _update_available,
    "updated": _outcome,
    "update_failed": _outcome,
    "rollback_failed": _rollback_failed,
    "rollout_stopped": _rollout_stopped,
}
"""Context: `org_id` with `release_id` or `rollout_id`; for the last two `update_id` and `rollout_id` alone."""


def _org(desk: Desk) -> Org:
    org = desk.row(Org, "org_id")
    if org.state is not OrgState.ACTIVE:
        raise NoReason("The organization is being deleted.")
    return org


def _updates(desk: Desk, org: Org, rollout: Rollout) -> Sequence[BotUpdate]:
    query = sa.select(BotUpdate).join(BotUpdate.bot).where(BotUpdate.rollout_id == rollout.id, Bot.org_id == org.id)
    return desk.session.scalars(query.order_by(Bot.name)).all()


def _release(release: Release) -> dict[str, Any]:
    sections = release.changelog["sections"] if release.changelog else []
    return {"version": release.version, "sections": sections}


def _names(updates: Sequence[BotUpdate]) -> str:
    return _listed([update.bot.name for update in updates])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)

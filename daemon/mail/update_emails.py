"""Emails about updates: available, done, failed, bot needs attention, rollout stopped. Used by the composers.

`portal.services.rollouts.notifications` chooses the recipients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import Bot, BotUpdate, Org, OrgState, Release, Rollout, RolloutState, UpdateState
from portal.rules.roles import ROLES, Role
from portal.services.releases import releases
from portal.services.rollouts import notifications, progress


def _compose_update_available(context: EmailContext) -> Email:
    org, release = _load_active_org(context), context.row(Release, "release_id")
    waiting = [
        bot
        for bot in notifications.list_waiting_bots(context.session, release, org.id)
        # Mails that an earlier version queued cover all images.
        if bot.image == context.mail.context.get("image", bot.image)
    ]
    if not waiting:
        raise Obsolete("No bot of the organization waits for this release any more.")
    subject = f"A new update is available for your {context.settings.product_name}"
    names = {"org": org.name, "bots": _join_names([bot.name for bot in waiting])}
    return Email("update_available", subject, names, _collect_facts(context, org, release))


def _compose_outcome(context: EmailContext) -> Email:
    org, rollout = _load_active_org(context), context.row(Rollout, "rollout_id")
    updates = _load_updates(context, org, rollout)
    updated = _names_in_state(updates, UpdateState.UPDATED)
    if updated and not any(releases.is_running(update.bot, rollout.release) for update in updates):
        raise Obsolete("A newer update replaced this one before the email could be sent.")
    product = context.settings.product_name
    subject = f"Your {product} was updated. Here's what's new" if updated else f"The update of your {product} failed"
    names = {
        "org": org.name,
        "updated": _join_names(updated),
        "unchanged": _join_names(_names_in_state(updates, UpdateState.FAILED, UpdateState.ROLLED_BACK)),
        "stuck": _join_names(_names_in_state(updates, UpdateState.NEEDS_ATTENTION)),
    }
    facts = {**_collect_facts(context, org, rollout.release), "updated_count": len(updated)}
    return Email(context.mail.template, subject, names, facts)


def _compose_rollback_failed(context: EmailContext) -> Email:
    bot: Bot = context.row(BotUpdate, "update_id").bot
    if bot.needs_attention is None:
        raise Obsolete("An operator repaired the bot before the email could be sent.")
    facts = {"instructions": bot.needs_attention, "link": context.link(f"/o/{bot.org.slug}/bots/{bot.id}")}
    names = {"bot": bot.name, "org": bot.org.name, "node": bot.node.name}
    return Email("rollback_failed", f"{bot.name} of {bot.org.name} needs attention", names, facts)


def _compose_rollout_stopped(context: EmailContext) -> Email:
    rollout = context.row(Rollout, "rollout_id")
    if rollout.state not in {RolloutState.PAUSED, RolloutState.ABORTED}:
        raise Obsolete("The rollout was resumed before the email could be sent.")
    names = {
        "reason": rollout.reason or "",
        "progress": progress.summarize(
            context.session, rollout, context.now, context.settings.health_check_timeout
        ).words,
    }
    facts = {
        "version": rollout.release.version,
        "state": str(rollout.state),
        "quarantined": rollout.release.quarantined_at is not None,
        "link": context.link(f"/admin/rollouts/{rollout.id}"),
    }
    return Email("rollout_stopped", f"The rollout of {rollout.release.version} was {rollout.state}", names, facts)


COMPOSERS: dict[str, Composer] = {
    "update_available": _compose_update_available,
    "updated": _compose_outcome,
    "update_failed": _compose_outcome,
    "rollback_failed": _compose_rollback_failed,
    "rollout_stopped": _compose_rollout_stopped,
}
"""Composers by template.

The context of the outbox row holds `org_id` and `user_id` with `release_id` and `image` (update_available) or
`rollout_id` (updated, update_failed); or only `update_id` (rollback_failed) or `rollout_id` (rollout_stopped).
"""


def _load_active_org(context: EmailContext) -> Org:
    org = context.row(Org, "org_id")
    if org.state is not OrgState.ACTIVE:
        raise Obsolete("The organization is being deleted.")
    return org


def _load_updates(context: EmailContext, org: Org, rollout: Rollout) -> Sequence[BotUpdate]:
    query = sa.select(BotUpdate).join(BotUpdate.bot).where(BotUpdate.rollout_id == rollout.id, Bot.org_id == org.id)
    return context.session.scalars(query.order_by(Bot.name)).all()


def _collect_facts(context: EmailContext, org: Org, release: Release) -> dict[str, Any]:
    is_owner = org.owner_id == context.mail.context["user_id"]
    return {
        "version": release.version,
        "sections": release.changelog["sections"] if release.changelog else [],
        "role": ROLES[Role.OWNER if is_owner else Role.ADMIN].noun,
        "link": context.link(f"/o/{org.slug}/"),
    }


def _names_in_state(updates: Sequence[BotUpdate], *states: UpdateState) -> list[str]:
    return [update.bot.name for update in updates if update.state in states]


def _join_names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)

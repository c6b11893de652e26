"""Emails to operators: a paused alert channel, and the weekly summary. Used by `composers`."""

from __future__ import annotations

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import AlertChannel, User
from portal.services import weekly_summary


def _compose_paused(context: EmailContext) -> Email:
    channel = context.row(AlertChannel, "channel_id")
    if channel.paused_at is None:
        raise Obsolete("The channel was resumed before the email could be sent.")
    names = {"channel": channel.name, "reason": channel.pause_reason or ""}
    facts = {"link": context.link(f"/admin/alerts/{channel.id}")}
    return Email("alerts_paused", f"Alerts to {channel.name} are paused", names, facts)


def _compose_weekly_summary(context: EmailContext) -> Email:
    user = context.row(User, "user_id")
    if not (user.is_platform_admin and user.weekly_summary):
        raise Obsolete("The recipient does not want the summary any more.")
    # What a retry sends later counts the same week.
    summary = weekly_summary.load(context.session, context.mail.created_at)
    names = {
        "releases": ", ".join(summary.releases),
        "needing_attention": ", ".join(summary.needing_attention),
        "down": ", ".join(summary.down),
    }
    facts = {"summary": summary, "link": context.link("/admin/")}
    return Email("weekly_summary", f"Your week with {context.settings.product_name}", names, facts)


COMPOSERS: dict[str, Composer] = {"alerts_paused": _compose_paused, "weekly_summary": _compose_weekly_summary}
"""Composers by template. The context of the outbox row holds `channel_id` or the recipient's `user_id`."""

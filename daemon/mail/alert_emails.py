"""The email to operators about an alert channel that Flotilla paused. Used by `composers`."""

from __future__ import annotations

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import AlertChannel


def _compose_paused(context: EmailContext) -> Email:
    channel = context.row(AlertChannel, "channel_id")
    if channel.paused_at is None:
        raise Obsolete("The channel was resumed before the email could be sent.")
    names = {"channel": channel.name, "reason": channel.pause_reason or ""}
    facts = {"link": context.link(f"/admin/alerts/{channel.id}")}
    return Email("alerts_paused", f"Alerts to {channel.name} are paused", names, facts)


COMPOSERS: dict[str, Composer] = {"alerts_paused": _compose_paused}
"""The composer by template. The context of the outbox row holds `channel_id`."""

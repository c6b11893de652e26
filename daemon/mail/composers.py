"""All email composers, by the template name of the outbox row. Used by the sender."""

from __future__ import annotations

from daemon.mail import account_emails, alert_emails, fork_emails, team_emails, update_emails
from daemon.mail.emails import Composer

COMPOSERS: dict[str, Composer] = {
    **account_emails.COMPOSERS,
    **team_emails.COMPOSERS,
    **update_emails.COMPOSERS,
    **fork_emails.COMPOSERS,
    **alert_emails.COMPOSERS,
}

"""Helpers that queue and send emails and read their links. Used by tests of emails and pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from daemon.mail import sender
from portal.database import Database
from portal.models import OutgoingMail, utcnow
from portal.services.mail import delivery, outbox
from portal.settings import Settings
from tests.support.mail import Mailbox


@dataclass
class OutboxWorker:
    """Queues emails in a test's database and sends them with the real sender, in this process."""

    database: Database
    settings: Settings

    def use_server(self, mailbox: Mailbox, **options: Any) -> None:
        """Send to that server from now on, without TLS unless the options say otherwise."""
        address: dict[str, Any] = {"server": mailbox.host, "port": mailbox.port, "use_tls": False}
        self.settings = replace(self.settings, mail=replace(self.settings.mail, **address | options))

    def queue(self, template: str, to: str = "new@example.com", **context: str) -> str:
        """Queue an email and return its id."""
        key = f"{template}:{context}"
        with self.database.transaction() as session:
            return outbox.queue_mail(session, to=to, template=template, dedupe_key=key, context=dict(context)).id

    def send_due(self, now: datetime | None = None) -> int:
        """Send all due emails and return their number."""
        now = now or utcnow()
        with self.database.reading() as session:
            due = [
                mail_id
                for repeated in (False, True)
                for mail_id in delivery.list_due(session, now, repeated=repeated)
            ]
        for mail_id in due:
            sender.send_mail(self.database, self.settings, mail_id, now)
        return len(due)

    def get_mail(self, mail_id: str) -> OutgoingMail:
        """Return the outbox row."""
        with self.database.reading() as session:
            return session.get_one(OutgoingMail, mail_id)


@dataclass
class MailDelivery:
    """Sends due emails to a mail server and returns what arrived there."""

    mail_worker: OutboxWorker
    smtp: Mailbox

    def deliver(self) -> list[EmailMessage]:
        """Send all due emails and return the messages that arrived."""
        before = len(self.smtp.messages)
        self.mail_worker.send_due()
        return self.smtp.messages[before:]

    def deliver_one_to(self, address: str) -> EmailMessage:
        """Send the only due email, check that it goes to `address`, and return the message."""
        (message,) = self.deliver()
        assert message["X-Recipients"] == address
        return message

    def deliver_link_to(self, address: str) -> str:
        """Send the only due email, which goes to `address`, and return the path of its first link."""
        return links_in(self.deliver_one_to(address))[0]


def links_in(message: EmailMessage) -> list[str]:
    """Return the paths of all links in the text of an email, which all lead to the portal."""
    found = [urlsplit(link) for link in re.findall(r"https?://\S+", bodies(message)[0])]
    assert {part.netloc for part in found} <= {"localhost"}
    return [part.path for part in found if part.path.strip("/")]


def bodies(message: Any) -> tuple[str, str]:
    """Return the text body and the HTML body of an email."""
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    return text.get_content(), html.get_content()

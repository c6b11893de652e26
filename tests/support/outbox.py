"""The outbox of a test's database, a worker's sending of it, and the links in the mails."""

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
class Office:
    """The outbox of a test's database and the sending of it, as a worker does it."""

    database: Database
    settings: Settings

    def serves(self, mailbox: Mailbox, **options: Any) -> None:
        """Send to that server from now on, in the clear unless the options say otherwise."""
        address: dict[str, Any] = {"server": mailbox.host, "port": mailbox.port, "use_tls": False}
        self.settings = replace(self.settings, mail=replace(self.settings.mail, **address | options))

    def post(self, template: str, to: str = "new@example.com", **context: str) -> str:
        """Write a mail; its id."""
        key = f"{template}:{context}"
        with self.database.transaction() as session:
            return outbox.queue_mail(session, to=to, template=template, dedupe_key=key, context=dict(context)).id

    def send_due(self, now: datetime | None = None) -> int:
        """Send whatever is due; how many mails that were."""
        now = now or utcnow()
        with self.database.reading() as session:
            due = delivery.list_due(session, now)
        for mail_id in due:
            sender.send_mail(self.database, self.settings, mail_id, now)
        return len(due)

    def row(self, mail_id: str) -> OutgoingMail:
        """The mail as it is now."""
        with self.database.reading() as session:
            return session.get_one(OutgoingMail, mail_id)


@dataclass
class Post:
    """The worker's post office and the mail server it sends to."""

    office: Office
    smtp: Mailbox

    def deliver(self) -> list[EmailMessage]:
        """Send what is due; the mails that came of it."""
        before = len(self.smtp.messages)
        self.office.send_due()
        return self.smtp.messages[before:]

    def one_to(self, address: str) -> EmailMessage:
        """Send what is due, which must be one mail, to that address."""
        (message,) = self.deliver()
        assert message["X-Recipients"] == address
        return message

    def link(self, address: str) -> str:
        """Send what is due, one mail to that address; the path of the first link in it."""
        return links_in(self.one_to(address))[0]


def links_in(message: EmailMessage) -> list[str]:
    """The paths of the links in a mail's text, which all lead to the portal."""
    found = [urlsplit(link) for link in re.findall(r"https?://\S+", bodies(message)[0])]
    assert {part.netloc for part in found} <= {"localhost"}
    return [part.path for part in found if part.path.strip("/")]


def bodies(message: Any) -> tuple[str, str]:
    """A mail's text and HTML."""
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    return text.get_content(), html.get_content()

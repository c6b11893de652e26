"""What a worker sends during a test, and the links in it."""

import re
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import urlsplit

from tests.mail.conftest import Office, bodies
from tests.support.mail import Mailbox


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

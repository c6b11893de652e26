"""The SMTP server of the tests, which stores received emails. Used by the fixture `smtp`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

from aiosmtpd.controller import Controller

from demo.processes import free_port


class Mailbox:
    """The address of the SMTP server and all received messages, in order of arrival."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        """Choose a free port."""
        self.port = free_port()
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Store a message, with the envelope's recipients in the header `X-Recipients`."""
        parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(envelope.content)
        parsed["X-Recipients"] = ", ".join(envelope.rcpt_tos)
        self.messages.append(parsed)
        return "250 kept"

    def wait_for(self, count: int, seconds: float = 60) -> list[EmailMessage]:
        """Wait for `count` messages and return all messages.

        Raises:
            AssertionError: too few messages arrived in time; the message lists them.
        """
        deadline = time.monotonic() + seconds
        while len(self.messages) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        subjects = [f"{message['To']}: {message['Subject']}" for message in self.messages]
        assert len(self.messages) >= count, f"waited for {count} messages, got {subjects}"
        return self.messages


@contextmanager
def running_mailbox(mailbox: Mailbox | None = None) -> Iterator[Mailbox]:
    """Run the SMTP server for the duration of a `with` block.

    Args:
        mailbox: handles the commands of clients; by default it stores every email.
    """
    mailbox = mailbox or Mailbox()
    controller = Controller(mailbox, hostname=mailbox.host, port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()

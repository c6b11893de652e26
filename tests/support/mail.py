"""A real SMTP server that keeps what it is sent."""

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
    """The SMTP server's address and all messages it took, in order of arrival."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        """Begin empty, on a free port."""
        self.port = free_port()
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep a message; `X-Recipients` tells who really got it."""
        parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(envelope.content)
        parsed["X-Recipients"] = ", ".join(envelope.rcpt_tos)
        self.messages.append(parsed)
        return "250 kept"

    def wait_for(self, count: int, seconds: float = 20) -> list[EmailMessage]:
        """Return the messages once there are `count` of them.

        Raises:
            AssertionError: they did not come in time; the message tells what came.
        """
        deadline = time.monotonic() + seconds
        while len(self.messages) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        subjects = [f"{message['To']}: {message['Subject']}" for message in self.messages]
        assert len(self.messages) >= count, f"waited for {count} messages, got {subjects}"
        return self.messages


@contextmanager
def running_mailbox() -> Iterator[Mailbox]:
    """Run the SMTP server for the time of a `with` block."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname=mailbox.host, port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()

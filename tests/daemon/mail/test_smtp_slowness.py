"""Deliveries to mail servers that send one byte at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon.mail import smtp
from daemon.mail.smtp import OutgoingMessage, ServerUnusable
from portal.services.mail.delivery import ATTEMPT_LEASE
from portal.settings import MailSettings
from tests.support.slow_peers import FILLER, Answer, slow_server

# Each test waits until a deadline has passed.
pytestmark = pytest.mark.slow

MESSAGE = OutgoingMessage("new@example.com", "Hello", "text", "<p>text</p>", "<id@example.com>")
DEADLINE = smtp.TOTAL_SECONDS
END_OF_MESSAGE = b"the message"


def server(slow_reply_to: bytes, slow: Answer) -> Callable[[bytes], Answer]:
    """Return a server that accepts emails and is slow in one reply, named by the beginning of the command."""
    replies = {
        b"connected": b"220 ready\r\n",
        b"ehlo": b"250 hello\r\n",
        b"mail": b"250 ok\r\n",
        b"rcpt": b"250 ok\r\n",
        b"data": b"354 go on\r\n",
        b"quit": b"221 bye\r\n",
        END_OF_MESSAGE: b"250 kept\r\n",
    }

    def reply(received: bytes) -> Answer:
        if received.endswith(b"\r\n.\r\n"):
            command = END_OF_MESSAGE
        else:
            command = next((name for name in replies if received.lower().startswith(name)), b"")
        return slow if command == slow_reply_to else Answer(replies.get(command, b""))

    return reply


def deliver(address: str, *, use_ssl: bool = False) -> None:
    """Deliver an email."""
    host, _, port = address.rpartition(":")
    settings = MailSettings(
        server=host,
        port=int(port),
        username=None,
        password=None,
        use_tls=False,
        use_ssl=use_ssl,
        sender="fleet@example.com",
    )
    smtp.deliver(settings, MESSAGE)


@pytest.fixture(autouse=True)
def deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the deadline. The time limits of single steps stay long and never apply."""
    monkeypatch.setattr(smtp, "TOTAL_SECONDS", 0.3)


@pytest.mark.parametrize("command", [b"connected", b"ehlo", b"mail", b"rcpt", b"data", END_OF_MESSAGE])
def test_slow_reply_exceeds_the_deadline(command: bytes) -> None:
    slow = server(command, Answer(b"250-", FILLER))
    with (
        slow_server(slow, reads_first=False) as address,
        pytest.raises(ServerUnusable, match=r"did not answer completely: it took longer than 0\.3 s"),
    ):
        deliver(address)


def test_slow_handshake_of_tls_exceeds_the_deadline() -> None:
    with (
        slow_server(lambda _: Answer(b"\x16\x03\x03\x40\x00", FILLER)) as address,
        pytest.raises(ServerUnusable, match=r"longer than 0\.3 s"),
    ):
        deliver(address, use_ssl=True)


def test_email_that_was_accepted_counts_as_delivered_although_the_farewell_is_slow() -> None:
    with slow_server(server(b"quit", Answer(b"221-", FILLER)), reads_first=False) as address:
        deliver(address)


def test_claim_on_an_attempt_outlasts_its_deadline() -> None:
    assert ATTEMPT_LEASE.total_seconds() > 1.5 * DEADLINE

"""A mail server that delivers nothing: it keeps every mail in a folder of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from daemon.demo.home import Home


@contextmanager
def running_mailbox(home: Home) -> Iterator[None]:
    """Take mail on loopback for the time of a `with` block and keep it as a Maildir in `mails`."""
    controller = Controller(Mailbox(home.folder / "mails"), hostname="127.0.0.1", port=home.smtp_port)
    controller.start()
    try:
        yield
    finally:
        controller.stop()

"""A mail server that delivers nothing: it keeps every mail in a folder of the demo, and shows it on a page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from demo.home import Home
from demo.mail_page import listen


@contextmanager
def running_mailbox(home: Home) -> Iterator[None]:
    """Take mail on loopback for the time of a `with` block, keep it as a Maildir in `mails`, and show it."""
    folder = home.folder / "mails"
    controller = Controller(Mailbox(folder), hostname="127.0.0.1", port=home.smtp_port)
    page = listen(folder, home.mail_page_port)
    reader = threading.Thread(target=page.serve_forever, name="mail page", daemon=True)
    controller.start()
    reader.start()
    try:
        yield
    finally:
        page.shutdown()
        page.server_close()
        controller.stop()

"""A mail server that delivers nothing and stores every mail. Used by `make demo` and `make serve`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from demo.config import DemoConfig
from demo.mail_page import create_server


@contextmanager
def running_mail_server(config: DemoConfig) -> Iterator[None]:
    """Run the mail server and the mail page for the duration of a `with` block.

    Both listen on loopback only. The mails are stored as a Maildir in the folder `mails`.
    """
    folder = config.folder / "mails"
    controller = Controller(Mailbox(folder), hostname="127.0.0.1", port=config.smtp_port)
    page = create_server(folder, config.mail_page_port)
    page_thread = threading.Thread(
        target=page.serve_forever, kwargs={"poll_interval": 0.05}, name="mail page", daemon=True
    )
    controller.start()
    page_thread.start()
    try:
        yield
    finally:
        page.shutdown()
        page.server_close()
        controller.stop()

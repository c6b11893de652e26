"""SMTP servers that refuse, hang or use TLS. Used by the tests of the sender."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.mail import Mailbox


class RefusingServer(Mailbox):
    """A server that gives a fixed reply to every email or every recipient."""

    def __init__(self, *, mail: str = "", recipient: str = "") -> None:
        """Set the replies; an empty reply accepts."""
        super().__init__()
        self.mail = mail
        self.recipient = recipient

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Reply to a recipient."""
        if self.recipient:
            return self.recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Reply to an email."""
        return self.mail or await super().handle_DATA(server, session, envelope)


class HangingServer(Mailbox):
    """A server that receives an email and replies only after `resume` is set."""

    def __init__(self, *, keeps: bool) -> None:
        """Set whether the server stores the email before it hangs."""
        super().__init__()
        self.keeps = keeps
        self.has_mail = threading.Event()
        self.resume = threading.Event()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Receive the email, wait for `resume`, then reply."""
        if self.keeps or self.resume.is_set():
            await super().handle_DATA(server, session, envelope)
        self.has_mail.set()
        await asyncio.to_thread(self.resume.wait)
        return "250 kept"


class _Closing(SMTP):
    """Closes the connection instead of replying to QUIT."""

    async def smtp_QUIT(self, _argument: str) -> None:  # noqa: N802
        """Close the connection without a reply."""
        assert self.transport is not None
        self.transport.close()


class _ClosingController(Controller):
    def factory(self) -> SMTP:
        return _Closing(self.handler)


@contextmanager
def serving(mailbox: Mailbox, *, closes_on_quit: bool = False, **options: Any) -> Iterator[None]:
    """Run a server on the mailbox's port."""
    kind = _ClosingController if closes_on_quit else Controller
    controller = kind(mailbox, hostname=mailbox.host, port=mailbox.port, **options)
    controller.start()
    try:
        yield
    finally:
        controller.stop()


@contextmanager
def self_signed_tls(folder: Path) -> Iterator[tuple[ssl.SSLContext, Path]]:
    """Create a self-signed certificate for 127.0.0.1; return the server's TLS context and the certificate file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "certificate.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    yield context, chain

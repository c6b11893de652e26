"""SMTP servers that misbehave, or that prove who they are."""

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


class Grumpy(Mailbox):
    """A server that answers every mail, or every recipient, as it was told."""

    def __init__(self, *, mail: str = "", recipient: str = "") -> None:
        """An empty answer accepts."""
        super().__init__()
        self.mail = mail
        self.recipient = recipient

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Answer to a recipient."""
        if self.recipient:
            return self.recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Answer to a mail."""
        return self.mail or await super().handle_DATA(server, session, envelope)


class Slow(Mailbox):
    """A server that has a mail, keeps it or not, and answers only when it is let go."""

    def __init__(self, *, keeps: bool) -> None:
        """`keeps`: whether it accepted the mail before it is slow to say so."""
        super().__init__()
        self.keeps = keeps
        self.has_mail = threading.Event()
        self.go_on = threading.Event()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Wait between the mail and the answer."""
        if self.keeps or self.go_on.is_set():
            await super().handle_DATA(server, session, envelope)
        self.has_mail.set()
        await asyncio.to_thread(self.go_on.wait)
        return "250 kept"


class _Curt(SMTP):
    """Hangs up instead of saying goodbye."""

    async def smtp_QUIT(self, _argument: str) -> None:  # noqa: N802
        """Close the connection without an answer."""
        assert self.transport is not None
        self.transport.close()


class _CurtController(Controller):
    def factory(self) -> SMTP:
        return _Curt(self.handler)


@contextmanager
def serving(mailbox: Mailbox, *, curt: bool = False, **options: Any) -> Iterator[None]:
    """Run a server on the mailbox's port."""
    kind = _CurtController if curt else Controller
    controller = kind(mailbox, hostname=mailbox.host, port=mailbox.port, **options)
    controller.start()
    try:
        yield
    finally:
        controller.stop()


@contextmanager
def certified(folder: Path) -> Iterator[tuple[ssl.SSLContext, Path]]:
    """A server's side of TLS for 127.0.0.1, signed by nobody but itself, and the file with its certificate."""
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

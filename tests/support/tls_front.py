"""A TLS proxy in front of portal and gateway, for cookies and features that browsers only allow with HTTPS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.gateway import LoopThread

_CHUNK = 65536


def write_certificate(folder: Path) -> ssl.SSLContext:
    """Create a certificate, which the browser of the tests accepts, and return the context of a server with it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(secret + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextmanager
def running_tls_front(servers: LoopThread, context: ssl.SSLContext, port: int, target: int) -> Iterator[None]:
    """Pass the bytes of TLS connections on.

    Args:
        servers: runs the proxy.
        context: with a certificate.
        port: where it listens.
        target: port of the server behind it.
    """
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(_copy_requests(reader, behind_writer), _copy_responses(behind_reader, writer))
            behind_writer.close()
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[servers.loop.create_task(pass_on(reader, writer))] = writer

    async def stop() -> None:
        server.close()
        for writer in connections.values():
            writer.transport.abort()
        await asyncio.gather(*connections, return_exceptions=True)

    server = servers.run(asyncio.start_server(accept, "127.0.0.1", port, ssl=context))
    try:
        yield
    finally:
        servers.run(stop())


async def _copy_requests(reader: asyncio.StreamReader, behind: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            behind.write(chunk)
            await behind.drain()
    with suppress(OSError):
        behind.write_eof()


async def _copy_responses(behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read until the server closes, also without a client: Werkzeug leaves files open if a connection is reset."""
    with suppress(OSError):
        while chunk := await behind.read(_CHUNK):
            if not writer.transport.is_closing():
                writer.write(chunk)
                with suppress(OSError):
                    await writer.drain()
    writer.close()

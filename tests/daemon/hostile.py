"""Hostile peers: registries, bots, a mail server and web clients. Used by the hostile world test."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from tests.daemon.registry.scripted import Reply, Request
from tests.support.mail import Mailbox

PAUSE_SECONDS = 0.5
"""Pause between two slow bytes, much shorter than any timeout of a socket."""
_DEEP = b"[" * 60_000
_HUGE = b"x" * 10_000_000
_OK = b"HTTP/1.1 200 OK\r\n"

Script = Callable[["Peer"], None]


class Peer:
    """The server's side of one connection.

    Args:
        connection: the connection, whose request was not read yet.
        stopped: set when the test ends.
    """

    def __init__(self, connection: socket.socket, stopped: threading.Event) -> None:
        self._connection = connection
        self._stopped = stopped

    def read_path(self) -> tuple[str, str]:
        """Read the request and return its method and its path."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._connection.recv(65536) or b"GET / HTTP/1.1\r\n\r\n"
        method, path, _ = received.decode("latin-1").split(" ", 2)
        return method, path

    def send(self, data: bytes) -> None:
        """Send data at once."""
        self._connection.sendall(data)

    def drip(self, data: bytes, filler: bytes = b"x") -> None:
        """Send data at once, then one more byte every half second until the client goes away or the test ends."""
        self.send(data)
        while not self._stopped.wait(PAUSE_SECONDS):
            self.send(filler)


@contextmanager
def hostile_server(script: Script) -> Iterator[str]:
    """Run a server on a free loopback port that answers each connection by a script, and yield its address."""
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        # A client that protects itself closes the connection, which is an error for the script only.
        with connection, suppress(OSError):
            script(Peer(connection, stopped))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _silence(peer: Peer) -> None:
    peer.drip(b"", filler=b"")


SLOW_EXCHANGES: Mapping[str, Script] = {
    "silence": _silence,
    "status": lambda peer: peer.drip(b"HTTP/1.1 2"),
    "headers": lambda peer: peer.drip(_OK + b"X-Slow: "),
    "many-headers": lambda peer: peer.drip(_OK, filler=b"X-Slow: yes\r\n"),
    "body": lambda peer: peer.drip(_OK + b"Content-Length: 1000000\r\n\r\n"),
    "chunks": lambda peer: peer.drip(_OK + b"Transfer-Encoding: chunked\r\n\r\n", filler=b"1\r\nx\r\n"),
}
"""Answers that never end, by the point of the exchange at which they become slow."""

GOOD_HEALTH: Script = lambda peer: peer.send(_OK + b'\r\n{"status": "ok"}')  # noqa: E731

BAD_HEALTH: Mapping[str, Script] = {
    "drip": SLOW_EXCHANGES["headers"],
    "deep": lambda peer: peer.send(_OK + b"\r\n" + _DEEP),
    "nul": lambda peer: peer.send(b"HTTP/1.1 200\0 O\0K\r\n\r\n{}"),
    "no-http": lambda peer: peer.send(b"\0\xff\0" * 1000 + b"\r\n\r\n"),
    "huge": lambda peer: peer.send(_OK + b"\r\n" + _HUGE),
    "wrong-type": lambda peer: peer.send(_OK + b'\r\n{"status": ["\\u0000\\ud800"]}'),
    "hang-up": lambda peer: peer.send(b""),
}
"""Answers of bots to a health check that are not healthy."""


def serve_slowly(peer: Peer) -> None:
    """Answer a request to a registry slowly, at the point of the exchange that its repository names."""
    _, path = peer.read_path()
    SLOW_EXCHANGES[path.split("/")[2]](peer)


def serve_health(script: Script) -> Script:
    """Return a script that reads the request of a health check before it answers."""

    def serve(peer: Peer) -> None:
        peer.read_path()
        script(peer)

    return serve


def _index(entry: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entry}).encode()


_DOCUMENTS: Mapping[str, bytes] = {
    "deep": b'{"schemaVersion": 2, "manifests": ' + _DEEP,
    "giant": _HUGE,
    "list": b"[1]",
    "text-for-list": _index("\0\ud800"),
    "numbers-for-entries": _index([1, None, []]),
    "numbers-for-platform": _index([{"platform": 7, "digest": 8}, {"platform": {"os": [], "architecture": {}}}]),
    "nul": b'{"manifests": "\0"}',
}

_REDIRECTS: Mapping[str, str] = {
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "circle": "/v2/circle/manifests/again",
    "file": "file:///etc/passwd",
}

_CHALLENGES: Mapping[str, str] = {
    "token-from-metadata": 'Bearer realm="http://169.254.169.254/token",service="x"',
    "token-from-nowhere": 'Bearer realm="\x07",service="x"',
}

LIES = (*_DOCUMENTS, *_REDIRECTS, *_CHALLENGES)
"""Repositories of the lying registry: wrong documents, redirects and challenges."""


def lie(request: Request) -> Reply:
    """Answer a request to a registry as its repository names."""
    repository = request.path.split("/")[2]
    if repository in _REDIRECTS:
        return Reply(307, {"Location": _REDIRECTS[repository]})
    if repository in _CHALLENGES:
        return Reply(401, {"WWW-Authenticate": _CHALLENGES[repository]})
    return manifest_reply(_DOCUMENTS[repository])


def manifest_reply(document: bytes) -> Reply:
    """Return the response with a manifest and its digest."""
    headers = {
        "Docker-Content-Digest": digest_of(document),
        "Content-Type": "application/vnd.oci.image.index.v1+json",
    }
    return Reply(200, headers, document)


def digest_of(document: bytes) -> str:
    """Return the digest of a manifest."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


class HostileMailbox(Mailbox):
    """A mail server that stores emails to `good-…`, and answers others slowly, wrongly or never."""

    def __init__(self) -> None:
        super().__init__()
        self.recipients: set[str] = set()
        """All recipients that clients named."""

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name and arguments
        self, server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Accept good recipients."""
        self.recipients.add(address)
        kind = address.partition("-")[0]
        while kind == "endless" and not server.transport.is_closing():
            await server.push("250-one moment")
            await asyncio.sleep(PAUSE_SECONDS)
        if kind == "odd":
            return "999 \0\x1b[31m\x07"
        if kind == "slow":
            await asyncio.sleep(2)
            return f"450 {400 * 'later '}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Refuse bad recipients after the whole email was sent."""
        if not envelope.rcpt_tos[0].startswith("good-"):
            return "554 \0 refused \x7f"
        return await super().handle_DATA(server, session, envelope)


class SlowClients:
    """Web clients that send their requests one byte at a time, and connect again when they are disconnected.

    Args:
        port: of the portal on loopback.
        number: how many clients.
    """

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._clients: list[socket.socket | None] = [None] * number
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for client in self._clients:
            if client is not None:
                client.close()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            for number, client in enumerate(self._clients):
                self._clients[number] = self._continue(client, number)

    def _continue(self, client: socket.socket | None, number: int) -> socket.socket | None:
        try:
            if client is None:
                client = socket.create_connection(("127.0.0.1", self._port), timeout=5)
                method, header = ("POST", "Content-Length: 1000\r\n\r\n") if number % 2 else ("GET", "X-Slow: ")
                client.sendall(f"{method} /login HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{header}".encode())
            client.sendall(b"x")
        except OSError:
            if client is not None:
                client.close()
            return None
        return client

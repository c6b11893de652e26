"""An HTTP server with scripted responses. Used by the tests of the registry client and the poller."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """A scripted response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drip: bool = False
    """Send the body byte by byte and never completely."""


@dataclass
class ScriptedServer:
    """The address of a running server and the requests it received."""

    address: str
    requests: list[Request] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    def __init__(self, respond: Callable[[Request], Reply], host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.respond = respond
        self.requests: list[Request] = []
        self.stopping = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection, which some tests do."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        self.server.requests.append(request)
        reply = self.server.respond(request)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            for one in value.split("\n"):
                self.send_header(name, one)
        self.send_header("Content-Length", str(len(reply.body) + reply.drip))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(reply)

    def send_body(self, reply: Reply) -> None:
        if not reply.drip:
            self.wfile.write(reply.body)
            return
        for byte in reply.body:
            self.wfile.write(bytes([byte]))
            if self.server.stopping.wait(0.02):
                return

    do_GET = do_HEAD = do_POST = do_DELETE = respond  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
        """Log nothing."""


@contextmanager
def scripted_server(
    respond: Callable[[Request], Reply], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[ScriptedServer]:
    """Run a server on a free port of a loopback address."""
    with _Server(respond, host) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield ScriptedServer(f"{host}:{server.server_address[1]}", server.requests)
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()

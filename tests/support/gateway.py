"""A running gateway with bots, and browsers without a browser. Used by tests of the gateway."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import uvloop
from aiohttp import web

from demo.processes import free_port
from portal.database import Database
from portal.gateway.server import running_gateway
from portal.models import Bot, User
from portal.settings import Settings
from tests import factories

DOMAIN = "localhost"
Headers = Mapping[str, str | None] | None
COOKIE = "flotilla-gateway"

BotHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class LoopThread:
    """An event loop in a thread, for servers that a test talks to with blocking calls."""

    def __init__(self) -> None:
        """Start the thread."""
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="servers of a test")
        self._thread.start()

    def run(self, work: Awaitable[Any]) -> Any:
        """Run work in the loop and return its result."""

        async def wait() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(60)

    def close(self) -> None:
        """End the thread."""
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@dataclass
class SeenRequest:
    """A request that a bot has received."""

    method: str
    target: str
    headers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return all values of a header, however its name is written."""
        return [value for found, value in self.headers if found.lower().replace("_", "-") == name]


@dataclass
class FakeBot:
    """A bot whose handler a test chooses. It records every request."""

    port: int
    seen: list[SeenRequest] = field(default_factory=list)
    handler: BotHandler | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Record the request, then call the handler of the test."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        self.seen.append(SeenRequest(request.method, request.raw_path, headers))
        if self.handler is not None:
            return await self.handler(request)
        body = await request.read()
        return web.Response(text=f"{request.method} {request.raw_path} {len(body)}")


async def start_bot(bot: FakeBot) -> web.ServerRunner:
    """Let a bot listen, and return its runner."""
    runner = web.ServerRunner(web.Server(bot.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", bot.port, reuse_address=True).start()
    return runner


@contextmanager
def running_bot(servers: LoopThread) -> Iterator[FakeBot]:
    """Run a bot for the duration of a `with` block."""
    bot = FakeBot(free_port())
    runner = servers.run(start_bot(bot))
    try:
        yield bot
    finally:
        servers.run(runner.cleanup())


class GatewayAddress:
    """Where a gateway can be reached.

    Args:
        port: where it listens.
        domain: the domain of its bots, with a port.
    """

    def __init__(self, port: int, domain: str) -> None:
        self.port = port
        self.domain = domain

    def host(self, subdomain: str) -> str:
        """Return the host of a bot."""
        return f"{subdomain}.{self.domain}"

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def send(self, request: bytes, seconds: float = 10) -> bytes:
        """Send bytes, and return everything that comes back until the gateway closes or is silent."""
        with self.connect() as connection:
            connection.settimeout(seconds)
            try:
                connection.sendall(request)
                return read_all(connection)
            except OSError:
                return b""


class RunningGateway(GatewayAddress):
    """A gateway that runs in the loop of a thread.

    Attributes:
        settings: with its port and the domain of its bots.
        database: its access to the database.
    """

    def __init__(
        self,
        servers: LoopThread,
        settings: Settings,
        database: Database,
        port: int | None = None,
        domain: str | None = None,
    ) -> None:
        """Start it, on a free port and with bots at the domain `localhost` unless others are given."""
        found = port or free_port()
        super().__init__(found, domain or f"{DOMAIN}:{found}")
        self.settings = replace(
            settings,
            gateway=replace(settings.gateway, bots_domain=self.domain, port=self.port),
        )
        self.database = database
        self._servers = servers
        self._is_stopped = False
        self._context = running_gateway(self.settings, database)
        servers.run(self._context.__aenter__())

    def stop(self) -> None:
        """Stop it gracefully. A second call does nothing."""
        if not self._is_stopped:
            self._is_stopped = True
            self._servers.run(self._context.__aexit__(None, None, None))


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes or is silent."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except OSError:
        pass
    return received


@dataclass
class Browser:
    """A signed-in browser at one bot."""

    gateway: GatewayAddress
    subdomain: str
    token: str

    @property
    def host(self) -> str:
        """The bot's host."""
        return self.gateway.host(self.subdomain)

    def headers(self, **headers: str) -> dict[str, str]:
        """Return the usual headers, and others with `_` for `-` in their names."""
        usual = {"Cookie": f"{COOKIE}={self.token}", "Sec-Fetch-Site": "same-origin"}
        return usual | {name.replace("_", "-"): value for name, value in headers.items()}

    @contextmanager
    def open(
        self,
        target: str = "/",
        method: str = "GET",
        body: Any = None,
        headers: Headers = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request on a new connection, and yield the response before its body is read.

        Headers replace the usual ones; None removes a usual one.
        """
        with closing(http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)) as connection:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            sent = {"Host": self.host, **self.headers(), **(headers or {})}
            if isinstance(body, bytes):
                sent["Content-Length"] = str(len(body))
            elif body is not None:
                sent["Transfer-Encoding"] = "chunked"
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body, encode_chunked=not isinstance(body, bytes | None))
            with connection.getresponse() as response:
                yield response

    def read(
        self,
        target: str = "/",
        method: str = "GET",
        body: Any = None,
        headers: Headers = None,
    ) -> tuple[int, bytes]:
        """Send a request, and return status and body of the response."""
        with self.open(target, method, body, headers) as response:
            return response.status, response.read()


def sign_in(gateway: GatewayAddress, database: Database, user_id: str, bot_id: str) -> Browser:
    """Return a browser in which a user has opened a bot."""
    with database.transaction() as session:
        user, bot = session.get_one(User, user_id), session.get_one(Bot, bot_id)
        return Browser(gateway, bot.subdomain, factories.gateway_session(session, user, bot))

"""The gunicorn worker that serves the portal with waitress. Used by the `web` process of the Procfile.

One thread reads all requests and sends all responses, and only complete requests reach the threads that run the
application. A slow client therefore occupies a connection, but no thread. gunicorn supervises the processes.

This module imports nothing of the portal, because gunicorn's arbiter imports it: reloaded workers would get old code.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from socket import socket
from types import FrameType
from typing import Any

from gunicorn.workers.base import Worker
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask

MAX_CONNECTIONS = 1500
"""Open connections per process: 1000 open pages, which keep theirs between two polls, and others."""
MAX_HEADER_BYTES = 32 * 1024
"""Size of the request line and all headers together."""
REQUEST_SECONDS = 30
"""Time from the first to the last byte of a request."""
RESPONSE_SECONDS = 120
"""Time in which a client must receive a response."""
IDLE_SECONDS = 75
"""Time from a response to the next request of the connection. Open pages poll every 3 seconds."""

_IDLE_SECONDS_AT_STOP = 1
_MEMORY_BYTES = 64 * 1024
"""Larger requests and responses are kept in temporary files."""
_SPARE_CONNECTIONS = 50
"""Connections above the maximum that are accepted before the ones that wait longest are closed."""
_PAUSE_PER_CONNECTION = 4e-6
"""Seconds between two passes over all connections, for each connection. A pass asks every connection what it waits
for, so 1000 connections without pauses cost half a core. During a pause of 4 ms, several events gather for a pass."""
_FILES_PER_CONNECTION = 2
_OTHER_FILES = 200
"""File descriptors of the process for other uses than connections."""


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files as far as it may, and return how many connections fit into it.

    Args:
        wanted: number of connections.
    """
    needed = wanted * _FILES_PER_CONNECTION + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, (soft - _OTHER_FILES) // _FILES_PER_CONNECTION)


class BufferingWorker(Worker):
    """A process of gunicorn that runs waitress on the first bound address, with the setting `threads`."""

    _server: Server | None = None

    def run(self) -> None:
        """Serve until the arbiter stops this worker or dies, then complete the requests that were received."""
        for name in ("waitress", "waitress.queue"):
            logging.getLogger(name).setLevel(logging.ERROR)
        application: Any = self.wsgi  # a Flask application
        listener: Any = self.sockets[0]  # gunicorn's wrapper of a socket
        body_limit = application.config["MAX_CONTENT_LENGTH"]
        connections = allow_connections(MAX_CONNECTIONS)
        server = self._server = Server(application, listener.sock, self.cfg.threads, body_limit, connections)
        while self.alive and os.getppid() == self.ppid:
            self.notify()
            server.run_once()
        server.stop_listening()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while server.active_channels and time.monotonic() < deadline:
            self.notify()
            server.run_once()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM: let `run` end, and wake it if it waits for connections."""
        super().handle_exit(sig, frame)
        if self._server is not None:
            self._server.pull_trigger()


class _Request(HTTPRequestParser):
    """A request that records when its first byte arrived."""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.started_at = time.time()


class _Response(WSGITask):
    """A run of the application that records when the response is ready."""

    channel: _Connection
    request: _Request  # type: ignore[assignment] # waitress runs another task for errors

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping:
            self.set_close_on_finish()
        return super().build_response_header()

    def set_close_on_finish(self) -> None:
        """Close the connection after this response, unless that is only because it has no body (204 or 304).

        Waitress takes the missing length of such a response for an unknown one. Most polls are answered by 204.
        """
        if self.has_body or self._must_close():
            super().set_close_on_finish()

    def _must_close(self) -> bool:
        is_requested = self.request.headers.get("CONNECTION", "").lower() == "close"
        return is_requested or self.version == "1.0" or self.channel.server.stopping

    def finish(self) -> None:
        self.channel.waiting_since = time.time()
        super().finish()


class _Connection(HTTPChannel):
    """A connection of a client.

    Attributes:
        waiting_since: when the last response was ready or, before the first, when the connection was opened.
    """

    parser_class = _Request
    task_class = _Response
    server: Server
    request: _Request | None

    def __init__(self, *args: Any, **options: Any) -> None:
        self.waiting_since = time.time()
        super().__init__(*args, **options)

    def waits_for_client(self) -> bool:
        """Return whether the client, not the application, must act next."""
        return not self.requests

    def find_deadline(self) -> float:
        """Return until when the client must act, in seconds since the epoch."""
        if self.total_outbufs_len:
            return self.waiting_since + RESPONSE_SECONDS
        if self.server.stopping:
            return max(self.waiting_since, self.last_activity) + _IDLE_SECONDS_AT_STOP
        request = self.request
        if request is not None:
            return max(self.waiting_since, request.started_at) + REQUEST_SECONDS
        return self.waiting_since + IDLE_SECONDS


class Server(TcpWSGIServer):
    """Waitress with a deadline for each request and response.

    Waitress alone only closes connections without any traffic, so a byte now and then would keep a connection open.

    Args:
        application: the WSGI application.
        listener: the bound socket.
        threads: the number of threads that run the application.
        max_body_bytes: the largest accepted body of a request.
        max_connections: how many connections may be open; above, those whose clients have waited longest are closed.
    """

    channel_class = _Connection
    active_channels: dict[int, _Connection]  # type: ignore[assignment] # the stubs say that it is one channel

    def __init__(
        self, application: Any, listener: socket, threads: int, max_body_bytes: int, max_connections: int
    ) -> None:
        self.stopping = False
        self.max_connections = max_connections
        self._next_check = 0.0
        self._watched: dict[int, Any] = {}
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(threads)
        limits = Adjustments(
            ident=None,  # no `Server` header
            clear_untrusted_proxy_headers=False,  # the application removes them
            connection_limit=max_connections + _SPARE_CONNECTIONS,
            inbuf_overflow=_MEMORY_BYTES,
            log_socket_errors=False,
            max_request_body_size=max_body_bytes + 1,
            max_request_header_size=MAX_HEADER_BYTES,
            outbuf_overflow=_MEMORY_BYTES,
        )
        address = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            application,
            self._watched,
            _sock=listener,
            dispatcher=dispatcher,
            adj=limits,
            sockinfo=address,
            bind_socket=False,
        )

    def run_once(self, seconds: float = 1) -> None:
        """Handle the next events of all connections, then close the connections of slow clients.

        Args:
            seconds: how long to wait for the first event.
        """
        wasyncore.loop(seconds, use_poll=True, map=self._watched, count=1)
        time.sleep(len(self.active_channels) * _PAUSE_PER_CONNECTION)
        now = time.time()
        if now >= self._next_check or len(self.active_channels) > self.max_connections:
            self._next_check = now + 1
            self.close_slow_connections(now)

    def close_slow_connections(self, now: float) -> None:
        """Close the connections past their deadline and, above the maximum, those whose clients have waited longest.

        Never call this while events are handled: a new connection can get the file descriptor of a closed one, and
        would then receive the event of the closed one.

        Args:
            now: the current time in seconds since the epoch.
        """
        waiting = [connection for connection in self.active_channels.values() if connection.waits_for_client()]
        waiting.sort(key=lambda connection: connection.waiting_since)
        surplus = max(0, len(self.active_channels) - self.max_connections)
        for position, connection in enumerate(waiting):
            if position < surplus or now >= connection.find_deadline():
                connection.handle_close()

    def stop_listening(self) -> None:
        """Accept no more connections, and close each connection after its current response."""
        self.stopping = True
        wasyncore.dispatcher.close(self)

    def maintenance(self, now: float) -> None:
        """Do nothing, because `close_slow_connections` replaces this check of waitress."""

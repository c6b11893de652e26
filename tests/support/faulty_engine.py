"""A proxy between a worker and its Docker engine that injects one fault at one call. Used by tests of updates.

The engine stays as it is: only the chosen call is lost, refused, delayed or cut. Calls are named by what they do, as
in `POST /containers/new/start`, because ids and the number of polls differ between two runs.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from daemon.engine.labels import update_id_of

_ENGINE_SECONDS = 300
_NAME = re.compile(r"flotilla-[a-z0-9]+-")
_FENCE = re.compile(r"-f\d+$")
_CHANGING_PARTS = re.compile(r"(?<=/images/)(?!create$).+?(?=/json$|/tag$|$)|(?<=/volumes/)[^/]+$")


class Fault(StrEnum):
    """What happens to a call."""

    DROPPED = "dropped"
    """The connection ends before the engine gets the call."""
    CUT = "cut"
    """The engine carries the call out, and the connection ends in the middle of the answer."""
    REFUSED = "refused"
    """Status 500 without an effect."""
    FAILED = "failed"
    """The engine carries the call out and answers with status 500."""
    DELAYED = "delayed"
    """The engine gets the call after the worker has given up waiting for the answer."""
    KILLED_BEFORE = "killed before"
    """The worker is killed, and the engine never gets the call."""
    KILLED_AFTER = "killed after"
    """The worker is killed when the engine has carried the call out."""


class Call(NamedTuple):
    """A call: what it does, and the how many-th call of this kind it is, from 1."""

    name: str
    number: int


@dataclass
class _Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class FaultyEngine:
    """The proxy of one engine.

    Args:
        engine_url: `unix://` or `tcp://` URL of the engine.
        delay: seconds by which a delayed call reaches the engine late.

    Attributes:
        calls: the calls since the last `prepare`, in the order of their arrival.
        hit: whether the fault was injected.
    """

    def __init__(self, engine_url: str, delay: float) -> None:
        self._engine = urlsplit(engine_url)
        self._delay = delay
        self._lock = threading.Lock()
        self._late = list[threading.Thread]()
        self.prepare({})

    def prepare(
        self,
        names: dict[str, str],
        call: Call | None = None,
        fault: Fault | None = None,
        kill: Callable[[], None] | None = None,
    ) -> None:
        """Begin a new run.

        Args:
            names: the names of containers that exist already, by id.
            call: the call that the fault hits; None for a run without a fault.
            fault: the fault.
            kill: kills the worker.
        """
        with self._lock:
            self.calls = list[Call]()
            self.hit = False
            self._names = dict(names)
            self._counts = Counter[str]()
            self._call, self._fault, self._kill = call, fault, kill

    def wait_for_late_calls(self) -> None:
        """Wait until the engine has carried out the delayed calls."""
        for thread in self._late:
            thread.join()
        self._late.clear()

    def handle(self, method: str, path: str, headers: Any, body: bytes) -> tuple[_Answer | None, bool]:
        """Carry a call out.

        Returns:
            The answer or None, and whether the connection ends in the middle of it.
        """
        fault = self._record(method, path)
        if fault in {Fault.KILLED_BEFORE, Fault.DROPPED}:
            if fault is Fault.KILLED_BEFORE:
                self._kill_worker()
            return None, False
        if fault is Fault.REFUSED:
            return _internal_error(), False
        if fault is Fault.DELAYED:
            late = threading.Thread(target=self._forward_late, args=(method, path, headers, body))
            self._late.append(late)
            late.start()
            late.join()  # the worker gives up before
            return None, False
        answer = self._forward(method, path, headers, body)
        if fault is Fault.KILLED_AFTER:
            self._kill_worker()
            return None, False
        return (_internal_error() if fault is Fault.FAILED else answer), fault is Fault.CUT

    def _record(self, method: str, path: str) -> Fault | None:
        name = self._name_call(method, path)
        with self._lock:
            self._counts[name] += 1
            call = Call(name, self._counts[name])
            self.calls.append(call)
            if self.hit or call != self._call:
                return None
            self.hit = True
            return self._fault

    def _name_call(self, method: str, path: str) -> str:
        parts = urlsplit(path)
        name = re.sub(r"^/v[\d.]+", "", unquote(parts.path))
        if created := parse_qs(parts.query).get("name"):
            name += f" {created[0]}"
        with self._lock:
            for container, known in self._names.items():
                name = name.replace(container, known)
        return f"{method} {_shorten(_CHANGING_PARTS.sub('*', name))}"

    def _forward_late(self, method: str, path: str, headers: Any, body: bytes) -> None:
        time.sleep(self._delay)
        self._forward(method, path, headers, body)

    def _forward(self, method: str, path: str, headers: Any, body: bytes) -> _Answer:
        connection = self._connect()
        try:
            connection.request(
                method, path, body or None, {key: headers[key] for key in headers if key != "Connection"}
            )
            response = connection.getresponse()
            answer = _Answer(response.status, response.reason, response.getheaders(), response.read())
        finally:
            connection.close()
        created = parse_qs(urlsplit(path).query).get("name")
        if created and answer.status == 201:
            with self._lock:
                self._names[json.loads(answer.body)["Id"]] = created[0]
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._engine.hostname or "localhost", self._engine.port)
        if self._engine.scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_ENGINE_SECONDS)
            connection.sock.connect(self._engine.path)
        return connection

    def _kill_worker(self) -> None:
        if self._kill is not None:
            self._kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer, is_cut = self.server.faulty.handle(self.command, self.path, self.headers, body)
        self.close_connection = answer is None or is_cut
        if answer is not None:
            self._send(answer, is_cut=is_cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - names of the base class

    def _send(self, answer: _Answer, *, is_cut: bool) -> None:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        dropped = {"transfer-encoding", "content-length", "connection"}
        lines += [f"{key}: {value}" for key, value in answer.headers if key.lower() not in dropped]
        body = b"" if self.command == "HEAD" else answer.body
        # The library recognizes a stream by its encoding.
        if any(key.lower() == "transfer-encoding" for key, _ in answer.headers):
            lines.append("Transfer-Encoding: chunked")
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        elif answer.status not in {204, 304}:
            lines.append(f"Content-Length: {len(body)}")
        content = "\r\n".join([*lines, "", ""]).encode() + body
        try:
            self.wfile.write(content[: -max(1, len(body) // 2)] if is_cut else content)
        except OSError:
            self.close_connection = True  # the worker was killed

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    faulty: FaultyEngine

    def get_request(self) -> tuple[Any, Any]:
        connection, _ = super().get_request()
        return connection, ("worker", 0)  # a Unix socket has no address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a killed worker resets its connections."""


@contextmanager
def faulty_engine(engine_url: str, delay: float) -> Iterator[tuple[FaultyEngine, str]]:
    """Run a proxy, and yield it with its URL."""
    # The path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="engine"))
    try:
        with _Server(str(folder / "proxy.sock"), _Handler) as server:
            server.faulty = FaultyEngine(engine_url, delay)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield server.faulty, f"unix://{folder / 'proxy.sock'}"
            finally:
                server.faulty.wait_for_late_calls()
                server.shutdown()
                thread.join()
    finally:
        shutil.rmtree(folder)


def _internal_error() -> _Answer:
    body = json.dumps({"message": "injected fault"}).encode()
    return _Answer(500, "Internal Server Error", [("Content-Type", "application/json")], body)


def _shorten(name: str) -> str:
    """Leave out the update and the fence in names of containers."""
    return " ".join(
        "/".join(_FENCE.sub("", _NAME.sub("", part)) if update_id_of(part) else part for part in word.split("/"))
        for word in name.split(" ")
    )

"""A small bot with the provision protocol, in memory, that can misbehave. Used by tests of the member sync.

Its answers are written byte by byte to the socket, so that a test can send what no library would send.
"""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

SECRET = "the-provision-secret-of-the-toy-bot"
_HANG_SECONDS = 20.0


class Trouble(StrEnum):
    """What a bot does instead of an answer, or after it has obeyed a call."""

    ERROR = "error"
    ERROR_AFTER = "error after it has obeyed"
    HANG = "hang"
    HANG_AFTER = "hang after it has obeyed"
    DRIP = "drip"
    HUGE = "huge"
    HTML = "html"
    REDIRECT = "redirect"
    BOMB = "bomb"
    WRONG_JSON = "wrong json"
    WRONG_SHAPE = "wrong shape"
    SWAPPED = "swapped"
    CUT_OFF = "cut off"
    RESTART = "restart"
    NOT_HTTP = "not http"


@dataclass(frozen=True)
class Received:
    """A call that the bot has received with a valid secret."""

    path: str
    body: dict[str, Any]
    key: str

    @property
    def user_id(self) -> str:
        """The user of a member call."""
        user: dict[str, str] = self.body.get("user", {})
        return str(self.body.get("userId") or user.get("id"))


@dataclass
class Data:
    """What the bot keeps in its volume: companies by tenant, and members with role and version by id."""

    companies: dict[str, str] = field(default_factory=dict)
    members: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    budgets: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)


class ToyBot:
    """The bot. Tests set its attributes while it runs.

    Args:
        knows_versions: whether stale versions are refused and repetitions are answered from memory.
        lists_members: whether the bot offers the list of members.
    """

    def __init__(self, *, knows_versions: bool = True, lists_members: bool = True) -> None:
        self.secrets = [SECRET]
        self.knows_versions = knows_versions
        self.lists_members = lists_members
        self.data = Data()
        self.received: list[Received] = []
        self.health_headers: list[dict[str, str]] = []
        """The headers of each health call, with lower-case names."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.delay = 0.0
        self.choose_trouble: Callable[[str], Trouble | None] = lambda _path: None
        self.on_call: Callable[[Received], None] = lambda _call: None
        self.trap_address = "127.0.0.1:1"
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._last_answer: dict[str, Any] = {"ok": True}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    @property
    def address(self) -> str:
        """`host:port` of the bot."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def roles(self, tenant: str) -> dict[str, str]:
        """Return the roles of the members of a tenant's company by user id."""
        return dict(self.data.members.get(self.data.companies.get(tenant, ""), {}))

    def snapshot(self) -> Data:
        """Return a copy of the data."""
        with self._lock:
            return copy.deepcopy(self.data)

    def restore(self, data: Data) -> None:
        """Take the data back in time."""
        with self._lock:
            self.data = copy.deepcopy(data)

    def serve(self) -> None:
        """Accept connections until the bot is stopped."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """End all connections and stop to listen."""
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _handle(self, connection: socket.socket) -> None:
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            with connection:
                self._answer(connection)
        except OSError:
            pass  # the client has closed the connection
        finally:
            with self._lock:
                self.in_flight -= 1

    def _answer(self, connection: socket.socket) -> None:
        request = _read_request(connection)
        if request is None:
            return
        method, path, headers, body = request
        if self.delay:
            self.stopped.wait(self.delay)
        trouble = self.choose_trouble(path)
        if trouble in {None, Trouble.ERROR_AFTER, Trouble.HANG_AFTER, Trouble.CUT_OFF, Trouble.SWAPPED}:
            status, content = self._obey(method, path, headers, body)
        else:
            status, content = 200, {"ok": True}
        if trouble is None:
            connection.sendall(_build_answer(status, json.dumps(content).encode()))
        else:
            self._misbehave(connection, trouble, content)
        self._last_answer = content

    def _misbehave(self, connection: socket.socket, trouble: Trouble, content: dict[str, Any]) -> None:
        if trouble is Trouble.DRIP:
            for byte in _build_answer(200, json.dumps(content).encode() + b" " * 1000):
                connection.sendall(bytes([byte]))
                if self.stopped.wait(0.02):
                    return
        elif trouble in {Trouble.HANG, Trouble.HANG_AFTER}:
            self.stopped.wait(_HANG_SECONDS)
        elif trouble is not Trouble.RESTART:
            connection.sendall(self._build_wrong_answer(trouble, json.dumps(content).encode()))

    def _build_wrong_answer(self, trouble: Trouble, whole: bytes) -> bytes:
        redirect = f"Location: http://{self.trap_address}/internal/members/add\r\n"
        answers = {
            Trouble.ERROR: _build_answer(500, b"{}"),
            Trouble.ERROR_AFTER: _build_answer(500, b"{}"),
            Trouble.HUGE: _build_answer(200, whole + b" " * 10_000_000 * (trouble is Trouble.HUGE)),
            Trouble.HTML: _build_answer(200, b"<html>ok</html>"),
            Trouble.REDIRECT: _build_answer(307, whole, redirect),
            Trouble.BOMB: _build_answer(200, b"\x1f\x8b" + b"\0" * 1000, "Content-Encoding: gzip\r\n"),
            Trouble.WRONG_JSON: _build_answer(200, b"[" * 50_000),
            Trouble.WRONG_SHAPE: _build_answer(200, b'{"ok": "true", "members": {}}'),
            Trouble.SWAPPED: _build_answer(200, json.dumps(self._last_answer).encode()),
            Trouble.CUT_OFF: _build_answer(200, whole + b" " * 100)[:-50],
            Trouble.NOT_HTTP: b"SSH-2.0-bot " + SECRET.encode() + b"\r\n\r\n",
        }
        return answers[trouble]

    def _obey(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/internal/provision/health":
            self.health_headers.append(headers)
            return 200, {"ok": True, "provisioning": True, "managed": True}
        if headers.get("authorization") not in {f"Bearer {secret}" for secret in self.secrets}:
            return 401, {"error": "unauthorized"}
        content = json.loads(body) if body else {}
        call = Received(f"{method} {path}", content, headers.get("idempotency-key", ""))
        with self._lock:
            self.received.append(call)
            self.on_call(call)
            known = self.data.answered.get(call.key)
            if call.key and known is not None and self.knows_versions:
                return 200, known
            status, answer = self._change(call)
            if call.key and status == 200:
                self.data.answered[call.key] = answer
            return status, answer

    def _change(self, call: Received) -> tuple[int, dict[str, Any]]:
        name, _, query = call.path.partition("?")
        match name:
            case "POST /internal/provision":
                return self._provision(call.body)
            case "GET /internal/members":
                return self._list(unquote(query.removeprefix("companyId=")))
        company = call.body.get("companyId") or call.body["tenantEntityId"]
        if company not in self.data.members:
            return 404, {"error": "unknown company"}
        match name:
            case "PUT /internal/provision/budget":
                self.data.budgets[company] = (call.body["budgetCents"], call.body.get("perAgentCents"))
                return 200, {"ok": True, "tenantEntityId": company, "budgetCents": call.body["budgetCents"]}
            case "DELETE /internal/provision":
                del self.data.members[company]
                return 200, {"ok": True, "tenantEntityId": company}
        return self._change_member(name, company, call)

    def _provision(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        company = self.data.companies.setdefault(body["tenantId"], f"company of {body['tenantId']}".replace(" ", "-"))
        admin = body["adminUser"]["id"]
        if company not in self.data.members:
            self.data.members[company] = {admin: "owner"}
        self.data.budgets[company] = (body["budgetCents"], None)
        return 201, {"tenantEntityId": company, "adminUserId": admin, "agents": []}

    def _list(self, company: str) -> tuple[int, dict[str, Any]]:
        if not self.lists_members or company not in self.data.members:
            return 404, {"error": "not found"}
        members = [
            {"userId": user, "role": role, "version": self.data.versions.get((company, user), 0)}
            for user, role in self.data.members[company].items()
        ]
        return 200, {"members": members}

    def _change_member(self, name: str, company: str, call: Received) -> tuple[int, dict[str, Any]]:
        user, version = call.user_id, call.body["version"]
        if self.knows_versions:
            if version < self.data.versions.get((company, user), 0):
                return 409, {"error": "stale"}
            self.data.versions[company, user] = version
        members = self.data.members[company]
        if name == "POST /internal/members/remove":
            members.pop(user, None)
        elif name == "POST /internal/members/change-role" and user not in members:
            return 404, {"error": "unknown member"}
        else:
            members[user] = call.body["role"]
            if "user" in call.body:
                self.data.names[user] = call.body["user"]["name"]
        return 200, {"ok": True}


@contextmanager
def running_toy_bot(**options: bool) -> Iterator[ToyBot]:
    """Run a toy bot in a thread."""
    bot = ToyBot(**options)
    thread = threading.Thread(target=bot.serve)
    thread.start()
    try:
        yield bot
    finally:
        bot.stop()
        thread.join()
        deadline = time.monotonic() + 5
        while bot.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)


def _read_request(connection: socket.socket) -> tuple[str, str, dict[str, str], bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return None
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        received = connection.recv(65536)
        if not received:
            return None
        body += received
    method, path, _ = first.split(" ")
    return method, path, headers, body


def _build_answer(status: int, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body

"""The bot's HTTP server: the health check for the platform and the notes page for users."""

import html
import json
import sqlite3
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

from .behaviour import Behaviour, ReleaseInfo
from .store import Store

LARGEST_FORM = 64 * 1024

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reference bot {version}</title>
<style>body {{ font: 1rem/1.5 system-ui; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>
<h1>Reference bot {version}</h1>
<p>Hello, {caller}.</p>
<form method="post" action="notes">
<label>New note <input name="text" required maxlength="500"></label> <button>Add note</button>
</form>
<ul>{notes}</ul>
"""


@dataclass(frozen=True)
class Caller:
    """The caller according to the identity headers; a missing header is an empty string."""

    user_id: str
    email: str
    name: str


class BotServer(ThreadingHTTPServer):
    """The HTTP server, with the release information and the store for its handlers."""

    daemon_threads = True

    def __init__(self, port: int, release: ReleaseInfo, store: Store, *, hosted: bool) -> None:
        """Listen on `port` of all addresses; `hosted` refuses callers without an identity header."""
        super().__init__(("", port), BotHandler)
        self.release = release
        self.store = store
        self.hosted = hosted


class BotHandler(BaseHTTPRequestHandler):
    """Handler of one connection."""

    server: BotServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer `/health`, `/` and `/notes`."""
        match self.path.partition("?")[0]:
            case "/health":
                self._answer_health()
            case "/" if self._is_allowed():
                self._answer_page()
            case "/notes" if self._is_allowed():
                self._answer_json(HTTPStatus.OK, {"notes": self.server.store.list_notes()})
            case _:
                self._refuse()

    def do_POST(self) -> None:
        """Store a note: the field `text` of a form sent to `/notes`."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_FORM:
            self.close_connection = True
            self._answer_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "the note is too long"})
            return
        text = parse_qs(self.rfile.read(length).decode()).get("text", [""])[0]
        if self.path != "/notes" or not self._is_allowed():
            self._refuse()
        elif not text:
            self._answer_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "the field text is empty"})
        else:
            caller = self._read_caller()
            self.server.store.add(text, caller.name or caller.user_id or "unknown")
            self._answer(HTTPStatus.SEE_OTHER, "text/plain", b"", location=".")

    def _answer_health(self) -> None:
        if self.server.release.behaviour in {Behaviour.UNHEALTHY, Behaviour.CORRUPTING}:
            self._answer_json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "error", "reason": "broken release"})
            return
        try:
            self.server.store.check()
        except sqlite3.Error as error:
            self._answer_json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "error", "reason": str(error)})
        else:
            self._answer_json(HTTPStatus.OK, {"status": "ok", "version": self.server.release.version})

    def _answer_page(self) -> None:
        caller = self._read_caller()
        name = " ".join(part for part in (caller.name, caller.email and f"<{caller.email}>") if part)
        page = PAGE.format(
            version=html.escape(self.server.release.version),
            caller=html.escape(name or "stranger"),
            notes="".join(f"<li>{html.escape(note)}</li>" for note in self.server.store.list_notes()),
        )
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())

    def _read_caller(self) -> Caller:
        user_id, email, name = (
            unquote(self.headers.get(f"x-platform-user-{part}", "")) for part in ("id", "email", "name")
        )
        return Caller(user_id, email, name)

    def _is_allowed(self) -> bool:
        return not self.server.hosted or bool(self._read_caller().user_id)

    def _refuse(self) -> None:
        status = HTTPStatus.NOT_FOUND if self._is_allowed() else HTTPStatus.FORBIDDEN
        self._answer_json(status, {"error": status.description or status.phrase})

    def _answer_json(self, status: HTTPStatus, content: object) -> None:
        self._answer(status, "application/json", json.dumps(content).encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

"""A local HTTP server that plays the APIs of GitHub, GitLab and Gitea, after their public documentation."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "token-of-the-tests"


@dataclass
class Failure:
    """An answer that the server gives instead of the right one."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"message": "Something is wrong"}'
    close: bool = False


@dataclass
class Forge:
    """The state of the played forge.

    Attributes:
        url: Base of the server.
        pulls: Pull requests in a common form.
        requests: Method and path of every request.
        failures: Answers for the next requests, first in first out.
    """

    url: str = ""
    pulls: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, head: str, base: str = "main", state: str = "open") -> dict[str, Any]:
        """Add a pull request that existed before."""
        pull = {
            "number": len(self.pulls) + 1,
            "title": "Old",
            "body": "Old",
            "head": head,
            "base": base,
            "state": state,
        }
        self.pulls.append(pull)
        return pull


@contextmanager
def running_forge() -> Iterator[Forge]:
    """Run the server."""
    forge = Forge()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(forge))
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _as_github(pull: dict[str, Any]) -> dict[str, Any]:
    return {
        **pull,
        "html_url": f"https://forge.example/acme/bot/pull/{pull['number']}",
        "head": {"ref": pull["head"]},
        "base": {"ref": pull["base"]},
    }


def _as_gitlab(pull: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": 1000 + pull["number"],
        "iid": pull["number"],
        "title": pull["title"],
        "description": pull["body"],
        "source_branch": pull["head"],
        "target_branch": pull["base"],
        "state": "opened" if pull["state"] == "open" else pull["state"],
        "web_url": f"https://forge.example/acme/bot/-/merge_requests/{pull['number']}",
    }


def _handler(forge: Forge) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one small server
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Be quiet."""

        def _answer(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            forge.requests.append((self.command, self.path))
            if forge.failures:
                failure = forge.failures.pop(0)
                if failure.close:
                    if self.command == "POST":
                        self._github(parts.path, {}, body, silent=True)
                    self.close_connection = True
                    return
                self._answer(failure.status, failure.body, failure.headers)
                return
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            authorized = (
                TOKEN in (self.headers.get("Authorization") or "") or self.headers.get("PRIVATE-TOKEN") == TOKEN
            )
            if not authorized:
                self._answer(401, {"message": "Bad credentials"})
            elif parts.path.startswith("/api/v4/"):
                self._gitlab(parts.path, query, body)
            else:
                self._github(parts.path, query, body)

        do_GET = do_POST = do_PATCH = do_PUT = _handle  # noqa: N815 - the names that http.server calls

        def _github(self, path: str, query: dict[str, str], body: dict[str, Any], *, silent: bool = False) -> None:
            """GitHub and Gitea differ in the query of the list."""
            gitea = path.startswith("/api/v1/")
            match = re.fullmatch(r"(?:/api/v1)?/repos/acme/bot/pulls(?:/(\d+))?", path)
            answer = (lambda *_: None) if silent else self._answer
            if match is None:
                answer(404, {"message": "Not Found"})
            elif self.command == "GET":
                found = [pull for pull in forge.pulls if pull["state"] == query.get("state", "open")]
                if gitea:
                    start = (int(query.get("page", 1)) - 1) * int(query.get("limit", 30))
                    found = found[start : start + int(query.get("limit", 30))]
                else:
                    found = [p for p in found if f"acme:{p['head']}" == query["head"] and p["base"] == query["base"]]
                answer(200, [_as_github(pull) for pull in found])
            elif self.command == "POST":
                if any(p["head"] == body["head"] and p["state"] == "open" for p in forge.pulls):
                    errors = [{"message": f"A pull request already exists for acme:{body['head']}."}]
                    answer(422, {"message": "Validation Failed", "errors": errors})
                    return
                pull = {"number": len(forge.pulls) + 1, "state": "open", **body}
                forge.pulls.append(pull)
                answer(201, _as_github(pull))
            else:
                pull = forge.pulls[int(match[1]) - 1]
                pull.update(body)
                answer(201 if gitea else 200, _as_github(pull))

        def _gitlab(self, path: str, query: dict[str, str], body: dict[str, Any]) -> None:
            match = re.fullmatch(r"/api/v4/projects/([^/]+)/merge_requests(?:/(\d+))?", path)
            if match is None or unquote(match[1]) != "acme/bot":
                self._answer(404, {"message": "404 Project Not Found"})
            elif self.command == "GET":
                found = [
                    pull
                    for pull in map(_as_gitlab, forge.pulls)
                    if all(pull[name] == value for name, value in query.items())
                ]
                self._answer(200, found)
            elif self.command == "POST":
                pull = forge.add(body["source_branch"], body["target_branch"])
                pull.update(title=body["title"], body=body["description"])
                self._answer(201, _as_gitlab(pull))
            else:
                pull = forge.pulls[int(match[2] or 0) - 1]
                pull.update(title=body["title"], body=body["description"])
                self._answer(200, _as_gitlab(pull))

    return Handler

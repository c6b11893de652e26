"""Real servers that answer 401 under `/internal` and nowhere else. Used by tests of the gateway's paths."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import BadStatusLine, HTTPResponse
from itertools import product
from pathlib import Path

from flask import Flask
from werkzeug.serving import make_server

from demo.processes import MissingRequirement, require_program, stop_process
from demo.reference_bot.behaviour import ReleaseInfo
from demo.reference_bot.bot import Bot
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.provision_api import Answer, Call, ProvisionApi
from demo.reference_bot.server import running_server
from portal.paths import ROOT

_SCRIPTS = Path(__file__).parent


class _ClosedApi(ProvisionApi):
    """A provision API that refuses all calls."""

    def answer(self, call: Call) -> Answer:
        """Refuse a call."""
        return Answer(HTTPStatus.UNAUTHORIZED, {"error": "internal"})


@contextmanager
def reference_bot(folder: Path) -> Iterator[int]:
    """Run the reference bot on a folder. Yield its port."""
    configuration = Configuration(port=0)
    for name in ("data", "paperclip"):
        (folder / name).mkdir()
    bot = Bot(ReleaseInfo("1.0.0"), configuration, folder / "data", folder / "paperclip")
    bot.provision = _ClosedApi(bot.database, configuration)
    with running_server(bot) as port:
        bot.migrate()
        yield port


@contextmanager
def flask_app(_folder: Path) -> Iterator[int]:
    """Run a Flask application on Werkzeug's server. Yield its port."""
    app = Flask("bot")

    @app.route("/internal", strict_slashes=False)
    @app.route("/internal/<path:rest>")
    def internal(rest: str = "") -> tuple[str, int]:
        return f"internal {rest}", HTTPStatus.UNAUTHORIZED

    @app.route("/")
    @app.route("/<path:rest>")
    def page(rest: str = "") -> str:
        return f"a page {rest}"

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def express_app(_folder: Path) -> Iterator[int]:
    """Run an Express application. Yield its port.

    Raises:
        MissingRequirement: Node or the package express is not installed.
    """
    if not (ROOT / "node_modules/express").exists():
        raise MissingRequirement("express is not installed: npm ci (or make install)")
    with _running_script("express_app.js") as port:
        yield port


@contextmanager
def node_app(_folder: Path) -> Iterator[int]:
    """Run a program of Node that parses targets as URLs. Yield its port.

    Raises:
        MissingRequirement: Node is not installed.
    """
    with _running_script("node_app.js") as port:
        yield port


@contextmanager
def _running_script(name: str) -> Iterator[int]:
    command = [require_program("node", "nodejs"), str(_SCRIPTS / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise MissingRequirement(f"{name} did not start")
            yield int(line)
        finally:
            stop_process(process, seconds=10)


SPELLINGS = ["internal", "Internal", "%69nternal", "%2569nternal", "intern%c3%a1l", "%EF%BD%89nternal"]
SEPARATORS = ["/", "//", "/a/", "/./", "/../", "/..;/", "/%2e/", "/%2e%2e/", "/%252e/", "/;/", "%2f", "%252F", "%5c"]
MARKS = ["a", ";", ";a=b", "%3f", "%23", "%00", "%20", "+", ".", "..", "~", "@", ":", ",", "*", "|", "%09"]


def list_targets() -> list[str]:
    """Return thousands of paths with `internal` behind all pairs of separators and marks."""
    starts = ["", *SEPARATORS, *MARKS]
    parts = product(starts, starts, SPELLINGS[:3], ["", "/a"])
    return sorted({"/" + "".join(part) for part in parts})


class PathClient:
    """Asks a server where it routes targets, on one connection for as long as the server keeps it open.

    Args:
        port: where the server listens.
        lines: the headers to send.
    """

    def __init__(self, port: int, *lines: str) -> None:
        self._port = port
        self._head = "".join(f"{line}\r\n" for line in lines or ("Host: bot",))
        self._connection: socket.socket | None = None

    def is_routed_to_internal(self, target: str) -> bool:
        """Send a target as it is, and return whether the server routes it to `/internal`."""
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self._port), 10)
        self._connection.sendall(f"GET {target} HTTP/1.1\r\n{self._head}\r\n".encode("latin-1"))
        response = HTTPResponse(self._connection)
        try:
            response.begin()
            response.read()
        except BadStatusLine:  # the server closes connections with targets that it cannot parse
            self.close()
            return False
        if response.will_close:
            self.close()
        return response.status == HTTPStatus.UNAUTHORIZED

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

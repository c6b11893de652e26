"""Three real servers that answer 401 under `/internal` and nowhere else. Used by tests of the gateway's paths."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
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

EXPRESS_APP = Path(__file__).with_name("express_app.js")
_UNAUTHORIZED = re.compile(rb"HTTP/1\.[01] 401 ")


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
    command = [require_program("node", "nodejs"), str(EXPRESS_APP)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise MissingRequirement("the Express application did not start")
            yield int(line)
        finally:
            stop_process(process, seconds=10)


def is_routed_to_internal(port: int, target: str) -> bool:
    """Send a target to a server as it is, and return whether it was routed to `/internal`."""
    with closing(socket.create_connection(("127.0.0.1", port), 10)) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n".encode("latin-1"))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return _UNAUTHORIZED.match(received) is not None

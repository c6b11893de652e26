"""Real servers: a path that the gateway forwards is never `/internal` for them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server

from portal.rules.bot_paths import PathVerdict, check_target

pytestmark = pytest.mark.slow

PARTS = ["/", "//", ".", "..", ";", "%2f", "%2F", "%5c", "\\", "%2e", "%252e", "%00", "%69nternal", "%2569nternal"]
WORDS = ["internal", "Internal", "INTERNAL", "members", "a", "%20", "%c0%af", "%EF%BC%8F", "?", "%3f", "#", "%23"]
TARGETS = st.lists(st.sampled_from(PARTS + WORDS), min_size=1, max_size=7).map(lambda parts: "/" + "".join(parts))


@pytest.fixture(scope="module")
def flask_server() -> Iterator[tuple[int, list[str]]]:
    """Run a Flask application that records whether `/internal` was routed. Yield its port and the record."""
    app, routed = Flask("bot"), []

    @app.route("/internal", methods=["GET"], strict_slashes=False)
    @app.route("/internal/<path:rest>")
    def internal(rest: str = "") -> str:
        routed.append(rest)
        return "internal"

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, routed
    server.shutdown()
    thread.join()
    server.server_close()


def send(port: int, target: str) -> bytes:
    """Send a request and return the response."""
    with closing(socket.create_connection(("127.0.0.1", port), 5)) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n".encode("latin-1"))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_the_server_routes_internal(flask_server: tuple[int, list[str]]) -> None:
    port, routed = flask_server
    routed.clear()
    for target in ("/internal", "/internal/members", "/%69nternal", "/internal?x=1"):
        send(port, target)
    assert len(routed) == 4


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=TARGETS)
def test_flask_never_routes_a_forwarded_path_to_internal(flask_server: tuple[int, list[str]], target: str) -> None:
    port, routed = flask_server
    if check_target(target) is not PathVerdict.FORWARD:
        return
    routed.clear()
    response = send(port, target)
    assert routed == []
    # A redirect to `/internal` would be followed by the browser, and refused then.
    assert not response.startswith(b"HTTP/1.1 200")

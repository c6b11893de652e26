"""Tests of the web server: slow clients, limits of requests, forged headers, and stops.

The first tests run the `web` process of the Procfile, the others one server with a given moment.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from waitress import wasyncore

from demo.platform import read_procfile
from demo.processes import free_port, running
from portal.gunicorn_worker import (
    IDLE_SECONDS,
    MAX_HEADER_BYTES,
    REQUEST_SECONDS,
    RESPONSE_SECONDS,
    Server,
    allow_connections,
)
from tests.daemon.processes import wait_until
from tests.support.databases import SqliteDatabase

HALF_HEADERS = b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "
HALF_BODY = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nemail="
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST_REQUEST = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def environment(
    sqlite: SqliteDatabase, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Environment of the `web` process, with an empty database."""
    folder = tmp_path_factory.mktemp("web")
    port = free_port()
    with sqlite.empty(folder) as database_url:
        yield {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_server,
            "DATA_DIR": str(folder),
            "PORT": str(port),
            "BASE_URL": f"http://127.0.0.1:{port}",
        }


@pytest.fixture(scope="module")
def portal(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run the `web` process and return its port."""
    port = int(environment["PORT"])
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        log = tmp_path_factory.mktemp("log") / "web.log"
        with running(web_command(), log=log, ready=lambda: is_answering(port)):
            yield port


def web_command() -> list[str]:
    """Return the command of the `web` process."""
    return ["sh", "-c", f"exec {read_procfile()['web']}"]


def is_answering(port: int) -> bool:
    """Return whether the portal answers within ten seconds."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).ok
    except requests.RequestException:
        return False


@contextmanager
def connected(port: int, *requests: bytes) -> Iterator[list[socket.socket]]:
    """Open one connection for each of the requests and send what they contain."""
    with ExitStack() as stack:
        clients = []
        for data in requests:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(data)
            clients.append(client)
        yield clients


def receive_all(client: socket.socket) -> str:
    """Return everything that the server sends until it closes the connection."""
    received = b""
    # The server resets a connection whose request it did not read to the end.
    with suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            received += chunk
    return received.decode()


@pytest.mark.processes
@pytest.mark.parametrize("unfinished", [HALF_HEADERS, HALF_BODY])
def test_unfinished_requests_do_not_stop_the_portal(portal: int, unfinished: bytes) -> None:
    with connected(portal, *[unfinished] * 100):
        assert all(is_answering(portal) for _ in range(20))


@pytest.mark.processes
def test_headers_cannot_change_the_root_of_the_portal(portal: int) -> None:
    forged = (
        b"\r\nSCRIPT_NAME: /evil\r\nX-Script-Name: /evil\r\nX-Forwarded-Prefix: /evil\r\nConnection: close\r\n\r\n"
    )
    request = b"GET /orgs HTTP/1.1\r\nHost: 127.0.0.1\r\nPATH_INFO: /login\r\nSCRIPT-NAME: /evil"
    with connected(portal, request + forged) as [client]:
        answer = receive_all(client)
    assert "Location: /login?next=/orgs" in answer
    assert "evil" not in answer


@pytest.mark.processes
def test_answers_do_not_name_the_server(portal: int) -> None:
    for data in (LAST_REQUEST, b"no HTTP\r\n\r\n"):
        with connected(portal, data) as [client]:
            answer = receive_all(client).lower()
        assert answer.startswith("http/1.")
        assert "server:" not in answer
        assert "waitress" not in answer
        assert "gunicorn" not in answer


@pytest.mark.processes
def test_large_requests_are_refused(portal: int) -> None:
    large_headers = REQUEST[:-2] + b"X-A: " + MAX_HEADER_BYTES * b"a"
    large_body = HALF_BODY.replace(b"100", b"10000000")
    with connected(portal, large_headers, large_body) as [headers, body]:
        assert receive_all(headers).startswith("HTTP/1.0 431")
        assert receive_all(body).startswith("HTTP/1.1 413")


@pytest.mark.processes
def test_stop_ends_all_processes_despite_open_connections(environment: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    own = {"PORT": str(port), "BASE_URL": f"http://127.0.0.1:{port}"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(web_command(), env=os.environ | environment | own, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_answering(port), "the portal answers")
        with connected(port, HALF_HEADERS, HALF_BODY, REQUEST, b"") as clients:
            assert clients[2].recv(100).startswith(b"HTTP/1.1 303")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


class Application:
    """An application that answers `/slow` when released, `/large` with ten megabytes, and `/unchanged` with 204."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.released = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/unchanged":
            start_response("204 No Content", [])
            return []
        size = 2
        if environ["PATH_INFO"] == "/large":
            size = 10_000_000
        if environ["PATH_INFO"] == "/slow":
            self.started.set()
            assert self.released.wait(60)
        start_response("200 OK", [("Content-Length", str(size))])
        return [size * b"x"]


@pytest.fixture
def application() -> Iterator[Application]:
    """The application behind `server`."""
    application = Application()
    yield application
    application.released.set()


@pytest.fixture
def server(application: Application) -> Iterator[Server]:
    """A server with one thread for the application. Tests run its loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(application, listener, 1, 1000, 100)
        yield server
        application.released.set()
        server.task_dispatcher.shutdown()
        wasyncore.close_all(server._watched)


def serve(server: Server, condition: Callable[[], bool]) -> None:
    """Run the server's loop until the condition holds."""

    def run_and_check() -> bool:
        server.run_once(0.05)
        return condition()

    wait_until(run_and_check, "the server has handled the events")


def port_of(server: Server) -> int:
    """Return the port on which the server listens."""
    return int(server.sockinfo[3][1])


def is_closed(client: socket.socket) -> bool:
    """Return whether the server has closed the connection, apart from data that was not received yet."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


@pytest.mark.parametrize("unfinished", [HALF_HEADERS, HALF_BODY])
def test_each_byte_does_not_extend_the_deadline_of_a_request(server: Server, unfinished: bytes) -> None:
    with connected(port_of(server), unfinished) as [client]:
        serve(server, lambda: any(connection.request for connection in server.active_channels.values()))
        (connection,) = server.active_channels.values()
        assert connection.request is not None
        deadline = connection.request.started_at + REQUEST_SECONDS
        client.sendall(b"x")
        serve(server, lambda: connection.last_activity > connection.request.started_at)  # type: ignore[union-attr]
        server.close_slow_connections(deadline - 1)
        assert not is_closed(client)
        server.close_slow_connections(deadline + 1)
        assert is_closed(client)


def test_connection_stays_open_between_polls_of_a_page(server: Server) -> None:
    with connected(port_of(server), REQUEST) as [client]:
        client.setblocking(False)
        serve(server, lambda: receives(client, b"\r\n\r\nxx"))
        (connection,) = server.active_channels.values()
        server.close_slow_connections(connection.waiting_since + IDLE_SECONDS - 1)
        assert not is_closed(client)
        server.close_slow_connections(connection.waiting_since + IDLE_SECONDS + 1)
        assert is_closed(client)


def test_connection_stays_open_after_a_response_without_body(server: Server) -> None:
    request = REQUEST.replace(b"/ ", b"/unchanged ")
    with connected(port_of(server), request) as [client]:
        client.setblocking(False)
        for _ in range(2):
            serve(server, lambda: receives(client, b"\r\n\r\n"))
            client.send(request)
        assert not is_closed(client)


@pytest.mark.parametrize("last", [LAST_REQUEST, REQUEST.replace(b"1.1", b"1.0")])
def test_connection_is_closed_after_a_response_without_body_on_request(server: Server, last: bytes) -> None:
    with connected(port_of(server), last.replace(b"/ ", b"/unchanged ", 1)) as [client]:
        serve(server, lambda: is_closed(client))


def receives(client: socket.socket, expected: bytes) -> bool:
    """Return whether the next data of a connection ends with `expected`."""
    try:
        return client.recv(65536).endswith(expected)
    except BlockingIOError:
        return False


def test_client_that_does_not_receive_its_response_occupies_no_thread(server: Server) -> None:
    with connected(port_of(server), REQUEST.replace(b"/ ", b"/large ")) as [slow]:
        serve(server, lambda: any(connection.total_outbufs_len for connection in server.active_channels.values()))
        (connection,) = server.active_channels.values()
        serve(server, connection.waits_for_client)
        with connected(port_of(server), REQUEST) as [client]:
            client.setblocking(False)
            serve(server, lambda: receives(client, b"\r\n\r\nxx"))
        server.close_slow_connections(connection.waiting_since + RESPONSE_SECONDS - 1)
        assert server.active_channels
        server.close_slow_connections(connection.waiting_since + RESPONSE_SECONDS + 1)
        assert not server.active_channels
        assert is_closed(slow)


@pytest.mark.parametrize(
    ("limits", "raised", "connections"),
    [
        ((1024, 100_000), (3200, 100_000), 1500),
        ((1024, resource.RLIM_INFINITY), (3200, resource.RLIM_INFINITY), 1500),
        ((1024, 1024), (1024, 1024), 412),
        ((9000, 9000), (9000, 9000), 1500),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY), 1500),
    ],
)
def test_connections_fit_into_the_limit_of_open_files(
    limits: tuple[int, int], raised: tuple[int, int], connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limit.append(new))
    assert allow_connections(1500) == connections
    assert limit[-1] == raised


def test_connections_above_the_maximum_replace_those_that_wait_longest(server: Server) -> None:
    server.max_connections = 3
    with (
        connected(port_of(server), *[HALF_HEADERS] * 5) as unfinished,
        connected(port_of(server), REQUEST) as [client],
    ):
        client.setblocking(False)
        serve(server, lambda: receives(client, b"\r\n\r\nxx"))
        assert [is_closed(other) for other in unfinished] == [True, True, True, False, False]


def test_request_of_a_stopping_server_is_completed(server: Server, application: Application) -> None:
    with connected(port_of(server), REQUEST.replace(b"/ ", b"/slow ")) as [client]:
        serve(server, application.started.is_set)
        server.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(server)), timeout=30)
        server.close_slow_connections(2**40)
        assert not is_closed(client)
        application.released.set()
        serve(server, lambda: not server.active_channels)
        client.setblocking(True)
        answer = receive_all(client)
    assert "Connection: close" in answer
    assert answer.endswith("\r\n\r\nxx")

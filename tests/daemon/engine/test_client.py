"""Connections to engines that answer, refuse, stop answering or do not exist."""

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound

from daemon.engine import client as engine_module
from daemon.engine.client import NEWEST_API, EngineUnreachable, PullFailed, open_engine, pull
from demo.processes import free_port
from portal.models.node import Node

UNKNOWN_DIGEST = f"sha256:{'0' * 64}"


def node_at(url: str, tls: dict[str, str] | None = None) -> Node:
    """Return a node whose engine is at this URL."""
    return Node(name="one", docker_url=url, tls=tls, snapshot_dir="/srv")


class ScriptedEngine(BaseHTTPRequestHandler):
    """An engine that answers `/version` and closes the connection in the middle of a pull."""

    api_version = "1.41"

    def do_GET(self) -> None:
        """Answer `/version`."""
        self._answer(b'{"ApiVersion": "%s"}' % self.api_version.encode())

    def do_POST(self) -> None:
        """Start the stream of a pull and close the connection."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        part = b'{"status": "Downloading"}\n'
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.close_connection = True

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Write no log."""


class FutureEngine(ScriptedEngine):
    """An engine with an API version newer than every supported one."""

    api_version = "1.99"


class RedirectingEngine(ScriptedEngine):
    """An engine that redirects `/version` to another path."""

    def do_GET(self) -> None:
        """Redirect `/version`."""
        if self.path != "/version":
            super().do_GET()
            return
        self.send_response(301)
        self.send_header("Location", "/its/version")
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def scripted(handler: type[ScriptedEngine]) -> Iterator[str]:
    """Run a scripted engine and yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_engine_that_does_not_listen_leaves_no_socket_open(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable), open_engine(node_at(f"unix://{tmp_path}/none.sock")):
        pass
    gc.collect()  # an open socket would be reported here


@pytest.mark.docker
def test_refusal_of_an_engine_keeps_its_status(docker_url: str) -> None:
    with open_engine(node_at(docker_url)) as client, pytest.raises(NotFound) as refusal:
        client.inspect_container("no-such-container")

    assert refusal.value.status_code == 404


def test_unreachable_engine_is_a_transient_error_that_names_node_and_address() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"

    with pytest.raises(EngineUnreachable, match=f"node one at {address}") as failure, open_engine(node_at(address)):
        pass

    assert failure.value.transient


def test_missing_certificates_are_an_error() -> None:
    node = node_at("tcp://127.0.0.1:1", tls={"ca": "/none", "cert": "/none", "key": "/none"})
    with pytest.raises(EngineUnreachable, match="certificate"), open_engine(node):
        pass


def test_engine_that_accepts_a_connection_but_never_answers_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(EngineUnreachable), open_engine(node_at(address)):
            pass


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted(ScriptedEngine) as url, socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with open_engine(node_at(url), 5) as client:
            assert client.version()["ApiVersion"] == ScriptedEngine.api_version

        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@contextmanager
def dropping_connections() -> Iterator[str]:
    """Yield a URL where connection attempts are silently dropped, as at a machine that is switched off."""
    with ExitStack() as sockets, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        for _ in range(4):  # more than the backlog holds, so that the kernel drops further attempts
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"tcp://127.0.0.1:{address[1]}"


def test_connecting_has_a_short_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CONNECT_SECONDS", 0.2)
    error = pytest.raises(EngineUnreachable, match=r"connect timeout=0\.2")
    with dropping_connections() as url, error, open_engine(node_at(url)):
        pass


def test_redirect_is_followed_with_the_same_time_limits() -> None:
    with scripted(RedirectingEngine) as url, open_engine(node_at(url)) as client:
        assert client.api_version == ScriptedEngine.api_version


def test_call_without_a_time_limit_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    silent_server = socket.create_server(("127.0.0.1", 0))
    with scripted(ScriptedEngine) as url, open_engine(node_at(url)) as client, silent_server as silent:
        monkeypatch.setattr(engine_module, "STREAM_SECONDS", 0.2)
        client.base_url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(EngineUnreachable):
            client.wait("container", timeout=None)


def test_engine_that_stops_after_the_connection_is_unreachable() -> None:
    with ExitStack() as connection:
        with scripted(ScriptedEngine) as url:
            client = connection.enter_context(open_engine(node_at(url)))

        with pytest.raises(EngineUnreachable):
            client.inspect_container("container")


def test_newer_engine_is_used_with_the_newest_supported_api_version() -> None:
    with scripted(FutureEngine) as url, open_engine(node_at(url)) as client:
        assert client.api_version == NEWEST_API


def test_pull_whose_stream_ends_early_fails() -> None:
    with scripted(ScriptedEngine) as url, open_engine(node_at(url)) as client, pytest.raises(EngineUnreachable):
        pull(client, f"127.0.0.1:1/bot@{UNKNOWN_DIGEST}", auth=None)


@pytest.mark.docker
@pytest.mark.registry
def test_image_is_pulled_by_digest(engine: docker.APIClient, snapshot_image: str) -> None:
    digests = engine.inspect_image(snapshot_image)["RepoDigests"]  # type: ignore[no-untyped-call]
    image = next(digest for digest in digests if digest.startswith(snapshot_image.rpartition(":")[0]))

    pull(engine, image, auth=None)

    assert image in engine.inspect_image(image)["RepoDigests"]  # type: ignore[no-untyped-call]


@pytest.mark.docker
@pytest.mark.registry
def test_pull_of_an_unknown_image_is_not_transient(engine: docker.APIClient, registry: str) -> None:
    with pytest.raises(PullFailed, match="flotilla/nothing") as failure:
        pull(engine, f"{registry}/flotilla/nothing@{UNKNOWN_DIGEST}", auth=None)

    assert not failure.value.transient


@pytest.mark.docker
def test_pull_from_a_registry_that_does_not_answer_is_transient(engine: docker.APIClient) -> None:
    with pytest.raises(PullFailed) as failure:
        pull(engine, f"127.0.0.1:{free_port()}/flotilla/bot@{UNKNOWN_DIGEST}", auth=None)

    assert failure.value.transient

"""Engines that answer, refuse, fall silent or are not there."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest
from docker.errors import NotFound

from daemon.engine import client as engine_module
from daemon.engine.client import NEWEST_API, EngineUnreachable, PullFailed, connect, pull, status_of
from portal.models.node import Node

UNKNOWN_DIGEST = f"sha256:{'0' * 64}"


def node_at(url: str, tls: dict[str, str] | None = None) -> Node:
    """Describe a node."""
    return Node(name="one", docker_url=url, tls=tls, snapshot_dir="/srv")


class ScriptedEngine(BaseHTTPRequestHandler):
    """Says that it is an engine, and breaks off in the middle of a pull."""

    api_version = "1.41"

    def do_GET(self) -> None:
        """Answer `/version`."""
        self._answer(b'{"ApiVersion": "%s"}' % self.api_version.encode())

    def do_POST(self) -> None:
        """Start the stream of a pull and hang up."""
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
        """Stay silent."""


class FutureEngine(ScriptedEngine):
    """Speaks a version of the API that nobody has seen yet."""

    api_version = "1.99"


class RedirectingEngine(ScriptedEngine):
    """Answers at another path than was asked for."""

    def do_GET(self) -> None:
        """Send whoever asks for `/version` on."""
        if self.path != "/version":
            super().do_GET()
            return
        self.send_response(301)
        self.send_header("Location", "/its/version")
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def scripted(handler: type[ScriptedEngine]) -> Iterator[str]:
    """Run a scripted engine and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.docker
def test_a_connected_client_reaches_the_engine(docker_url: str) -> None:
    """Its refusals keep their status."""
    client = connect(node_at(docker_url))

    with pytest.raises(NotFound) as refusal:
        client.inspect_container("no-such-container")

    assert status_of(refusal.value) == 404
    client.close()


def test_an_engine_that_is_not_there_is_unreachable() -> None:
    """The message names the node and its address, and the update may be tried again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(EngineUnreachable, match=f"node one at {address}") as failure:
        connect(node_at(address))

    assert failure.value.transient


def test_missing_certificates_are_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Instead of a connection without them."""
    with pytest.raises(EngineUnreachable, match="certificate"):
        connect(node_at("tcp://127.0.0.1:1", tls={"ca": "/none", "cert": "/none", "key": "/none"}))


def test_an_engine_that_falls_silent_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is accepted and never answered must not hold a worker for ever."""
    monkeypatch.setattr(engine_module, "CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(EngineUnreachable):
            connect(node_at(address))


@contextmanager
def swallowing() -> Iterator[str]:
    """Give an address that takes no connection and does not say so either, as a machine that is switched off."""
    with ExitStack() as sockets, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        for _ in range(4):  # more than wait to be accepted; the kernel then drops whoever knocks
            knocking = sockets.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(address)
        yield f"tcp://127.0.0.1:{address[1]}"


def test_an_engine_that_swallows_connections_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its answers may take, being connected takes no time."""
    monkeypatch.setattr(engine_module, "CONNECT_SECONDS", 0.2)
    with swallowing() as url, pytest.raises(EngineUnreachable, match=r"connect timeout=0\.2"):
        connect(node_at(url))


def test_a_redirect_keeps_the_time_limits() -> None:
    """Engines redirect what has a path they would write differently."""
    with scripted(RedirectingEngine) as url, connect(node_at(url)) as client:
        assert client.api_version == ScriptedEngine.api_version


def test_calls_without_a_limit_of_their_own_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks for none where it pulls or waits."""
    with scripted(ScriptedEngine) as url:
        client = connect(node_at(url))
        with socket.create_server(("127.0.0.1", 0)) as silent, client:
            monkeypatch.setattr(engine_module, "STREAM_SECONDS", 0.2)
            client.base_url = f"http://127.0.0.1:{silent.getsockname()[1]}"

            with pytest.raises(EngineUnreachable):
                client.wait("container", timeout=None)


def test_an_engine_that_dies_later_is_unreachable() -> None:
    """Every call of a connected client has that one error for it."""
    with scripted(ScriptedEngine) as url:
        client = connect(node_at(url))

    with client, pytest.raises(EngineUnreachable):
        client.inspect_container("container")


def test_engines_newer_than_we_know_are_spoken_to_in_an_older_version() -> None:
    """Newer versions leave out what faithful recreation needs."""
    with scripted(FutureEngine) as url, connect(node_at(url)) as client:
        assert client.api_version == NEWEST_API


def test_a_pull_that_breaks_off_is_no_success() -> None:
    """A stream that ends early is not the end of the pull."""
    with scripted(ScriptedEngine) as url, connect(node_at(url)) as client, pytest.raises(EngineUnreachable):
        pull(client, f"127.0.0.1:1/bot@{UNKNOWN_DIGEST}", auth=None)


@pytest.mark.docker
@pytest.mark.registry
def test_an_image_is_pulled_by_digest(engine: docker.APIClient, snapshot_image: str) -> None:
    """Afterwards it is there."""
    digests = engine.inspect_image(snapshot_image)["RepoDigests"]  # type: ignore[no-untyped-call]
    image = next(digest for digest in digests if digest.startswith(snapshot_image.rpartition(":")[0]))

    pull(engine, image, auth=None)

    assert image in engine.inspect_image(image)["RepoDigests"]  # type: ignore[no-untyped-call]


@pytest.mark.docker
@pytest.mark.registry
def test_an_image_the_registry_does_not_have_is_not_asked_for_again(engine: docker.APIClient, registry: str) -> None:
    """Trying again would change nothing."""
    with pytest.raises(PullFailed, match="flotilla/nothing") as failure:
        pull(engine, f"{registry}/flotilla/nothing@{UNKNOWN_DIGEST}", auth=None)

    assert not failure.value.transient


@pytest.mark.docker
def test_a_registry_that_does_not_answer_may_be_asked_again(engine: docker.APIClient) -> None:
    """It is nobody's release that failed."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(PullFailed) as failure:
        pull(engine, f"127.0.0.1:{port}/flotilla/bot@{UNKNOWN_DIGEST}", auth=None)

    assert failure.value.transient

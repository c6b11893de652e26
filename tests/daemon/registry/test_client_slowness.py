"""The registry client with registries and token servers that send one byte at a time, at any point of an exchange."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from daemon.registry.client import RegistryClient
from daemon.registry.errors import TooSlow
from portal.rules.references import parse_reference
from tests.daemon.registry.pushing import compute_digest
from tests.daemon.registry.scripted import Reply, scripted_server
from tests.support.slow_peers import FILLER, Answer, http_answer, slow_server

# Each test waits until a deadline has passed.
pytestmark = pytest.mark.slow

MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
ANNOUNCED = http_answer(b"", f"Docker-Content-Digest: {compute_digest(MANIFEST)}\r\n")
NOT_SUPPORTED = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
PADDED = MANIFEST + b" " * len(FILLER)
DEADLINE = 0.4


def poll(address: str) -> None:
    """Ask for a digest with a socket timeout that never applies, because bytes arrive all the time."""
    RegistryClient(timeout=30, deadline=DEADLINE).get_current_digest(parse_reference(f"{address}/acme/bot:managed"))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", b"HTTP/1.1 200 " + FILLER + ANNOUNCED.removeprefix(b"HTTP/1.1 200")),
        Answer(b"HTTP/1.1 200 OK\r\nX-Filler: ", FILLER + b"\r\n" + ANNOUNCED.partition(b"\r\n")[2]),
    ],
    ids=["status line", "headers"],
)
def test_slow_head_of_a_response_exceeds_the_deadline(answer: Answer) -> None:
    with slow_server(lambda _: answer) as address, pytest.raises(TooSlow, match=r"completely within 0\.4 s"):
        poll(address)


@pytest.mark.parametrize(
    "head",
    [f"HTTP/1.1 200 OK\r\nContent-Length: {len(PADDED)}\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"],
    ids=["known length", "until the connection closes"],
)
def test_slow_body_exceeds_the_deadline(head: str) -> None:
    def answer(request: bytes) -> Answer:
        return Answer(NOT_SUPPORTED) if request.startswith(b"HEAD") else Answer(head.encode(), PADDED)

    with slow_server(answer) as address, pytest.raises(TooSlow):
        poll(address)


def test_slow_token_server_exceeds_the_deadline() -> None:
    slow = Answer(b"HTTP/1.1 200 OK\r\nX-Filler: ", FILLER + b"\r\n\r\n")
    with slow_server(lambda _: slow) as tokens:
        challenge = Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens}/token"'})
        with scripted_server(lambda _: challenge) as server, pytest.raises(TooSlow):
            poll(server.address)


def test_deadline_includes_all_redirects() -> None:
    """Each hop is faster than the deadline, but all together are not."""
    padding = b"x" * 12  # 0.24 s
    with ExitStack() as servers:
        url = servers.enter_context(slow_server(lambda _: Answer(ANNOUNCED)))
        for _ in range(5):
            redirect = Answer(
                b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n", f"Location: http://{url}/".encode()
            )
            slow = Answer(redirect.fast + redirect.slow + b"\r\nX-Filler: ", padding + b"\r\n\r\n")
            url = servers.enter_context(slow_server(lambda _, slow=slow: slow))  # type: ignore[misc]
        with pytest.raises(TooSlow):
            poll(url)

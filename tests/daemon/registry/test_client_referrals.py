"""Redirects and token servers on networks that only the operator's machines reach.

Two loopback addresses play the parts: 127.0.0.2 counts as an address on the internet.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from daemon.network import addresses
from daemon.network.addresses import Network
from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credential, Credentials
from daemon.registry.errors import InvalidResponse, RegistryError
from portal.rules.references import parse_reference
from tests.daemon.registry.scripted import Reply, Request, ScriptedServer, scripted_server

INTERNET, INTERNAL = "127.0.0.2", "127.0.0.1"
DIGEST = "sha256:" + "d" * 64
ANNOUNCED = Reply(200, {"Docker-Content-Digest": DIGEST})
TOKEN = Reply(200, body=b'{"token": "t"}')

Serve = Callable[[str, Callable[[Request], Reply]], ScriptedServer]


@pytest.fixture(autouse=True)
def internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an address count as one on the internet."""
    real = addresses.network_of
    monkeypatch.setattr(
        addresses, "network_of", lambda address: Network.PUBLIC if address == INTERNET else real(address)
    )


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a scripted server at a loopback address."""
    with ExitStack() as servers:
        yield lambda host, respond: servers.enter_context(scripted_server(respond, host=host))


def redirect(url: str) -> Callable[[Request], Reply]:
    """Return a registry's reaction that redirects every request."""
    return lambda _: Reply(307, {"Location": url})


def challenge(url: str) -> Callable[[Request], Reply]:
    """Return a registry's reaction that requires a token of another server."""
    required = Reply(401, {"WWW-Authenticate": f'Bearer realm="{url}"'})
    return lambda request: ANNOUNCED if "Authorization" in request.headers else required


def ask(server: ScriptedServer) -> str:
    """Ask a server for a digest, with credentials for it."""
    client = RegistryClient(Credentials({server.address: Credential("fleet", "secret")}))
    return client.get_current_digest(parse_reference(f"{server.address}/acme/bot:managed"))


@pytest.fixture
def on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let names of the domain `.test` resolve to the two addresses."""
    names = {"internet.test": [INTERNET], "internal.test": [INTERNAL], "both.test": [INTERNET, INTERNAL]}
    real = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> list[Any]:
        return [found for name in names.get(host, [host]) for found in real(name, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("on_this_machine_only")
@pytest.mark.parametrize("refer", [redirect, challenge])
@pytest.mark.parametrize(
    "name", [INTERNAL, "internal.test", "both.test", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_registry_on_the_internet_may_not_refer_to_this_machine(
    serve: Serve, refer: Callable[[str], Callable[[Request], Reply]], name: str
) -> None:
    internal = serve(INTERNAL, lambda _: TOKEN)
    port = internal.address.rpartition(":")[2]
    registry = serve(INTERNET, refer(f"http://{name}:{port}/latest/meta-data"))

    with pytest.raises(InvalidResponse, match=r"may not refer to .* on this machine"):
        ask(registry)

    assert internal.requests == []


@pytest.mark.parametrize("refer", [redirect, challenge])
@pytest.mark.parametrize(
    ("target", "network"),
    [
        ("http://10.0.0.7/v2/", "a private network"),
        ("http://169.254.169.254/latest/meta-data/", "the metadata service of a cloud"),
        ("http://[fe80::1]/", "the local link"),
    ],
)
def test_registry_on_the_internet_may_not_refer_to_other_networks(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    refer: Callable[[str], Callable[[Request], Reply]],
    target: str,
    network: str,
) -> None:
    registry = serve(INTERNET, refer(target))
    connected: list[Any] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)

    with pytest.raises(InvalidResponse, match=network):
        ask(registry)

    assert set(connected) == {INTERNET}


@pytest.mark.parametrize("refer", [redirect, challenge])
def test_registry_on_this_machine_may_refer_to_this_machine_but_not_to_metadata(
    serve: Serve, refer: Callable[[str], Callable[[Request], Reply]]
) -> None:
    internal = serve(INTERNAL, lambda request: TOKEN if request.path.startswith("/token") else ANNOUNCED)

    assert (
        ask(
            serve(
                INTERNAL,
                refer(f"http://{internal.address}/token" if refer is challenge else f"http://{internal.address}/"),
            )
        )
        == DIGEST
    )
    with pytest.raises(InvalidResponse, match="metadata"):
        ask(serve(INTERNAL, refer("http://169.254.169.254/")))


def test_last_server_decides_where_a_redirect_may_lead(serve: Serve) -> None:
    """An internal registry sends downloads to the internet. Servers there may not send them back."""
    internal = serve(INTERNAL, lambda _: ANNOUNCED)
    storage = serve(INTERNET, redirect(f"http://{internal.address}/"))
    registry = serve(INTERNAL, redirect(f"http://{storage.address}/"))

    with pytest.raises(InvalidResponse, match="may not refer"):
        ask(registry)


def test_name_that_resolves_differently_after_the_check_leads_nowhere(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    internal = serve(INTERNAL, lambda _: TOKEN)
    port = int(internal.address.rpartition(":")[2])
    registry = serve(INTERNET, redirect(f"http://rebinding.test:{port}/"))
    real = socket.getaddrinfo
    answers = iter([INTERNET, *[INTERNAL] * 10])

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        return real(next(answers) if host == "rebinding.test" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with pytest.raises(RegistryError):
        ask(registry)

    assert internal.requests == []


def test_connection_that_the_operator_allowed_is_not_used_for_a_redirect(serve: Serve) -> None:
    internal = serve(INTERNAL, lambda _: ANNOUNCED)
    registry = serve(INTERNET, redirect(f"http://{internal.address}/v2/acme/bot/manifests/managed"))
    client = RegistryClient()
    assert client.get_current_digest(parse_reference(f"{internal.address}/acme/bot:managed")) == DIGEST

    with pytest.raises(InvalidResponse, match="may not refer"):
        client.get_current_digest(parse_reference(f"{registry.address}/acme/bot:managed"))

    assert len(internal.requests) == 1


def test_proxy_is_not_asked_to_connect_to_a_forbidden_address(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(INTERNAL, lambda _: Reply(502))
    registry = serve(INTERNET, redirect("https://10.0.0.7/"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")

    with pytest.raises(InvalidResponse, match="a private network"):
        ask(registry)

    assert proxy.requests == []

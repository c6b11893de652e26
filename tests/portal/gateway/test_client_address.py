"""The address of a client behind trusted proxies, which clients cannot forge."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from portal.gateway.client_address import find_client_address
from portal.gateway.http.bodies import Body
from portal.gateway.http.connections import UNKNOWN, Connection
from portal.gateway.http.request_headers import RequestHeaders
from portal.gateway.http.requests import BrowserRequest

PEER = "192.0.2.1"


def find(trusted_proxies: int, *forwarded: str, peer: str | None = PEER) -> str:
    """Return the address of a client for the values of `X-Forwarded-For`."""
    transport = Mock()
    transport.get_extra_info.side_effect = {"peername": (peer, 50000) if peer else None}.get
    connection = Connection()
    connection.connection_made(transport)
    request = BrowserRequest(
        method="GET",
        target="/",
        version="1.1",
        headers=RequestHeaders([("X-Forwarded-For", value) for value in forwarded]),
        body=Body(lambda: None),
        connection=connection,
        keeps_connection=True,
    )
    return find_client_address(request, trusted_proxies)


@pytest.mark.parametrize(
    ("trusted_proxies", "forwarded", "expected"),
    [
        (0, [], PEER),
        (0, ["203.0.113.9"], PEER),
        (1, ["203.0.113.1"], "203.0.113.1"),
        (2, ["203.0.113.1, 198.51.100.1"], "203.0.113.1"),
        (2, ["203.0.113.1", "198.51.100.1"], "203.0.113.1"),
    ],
)
def test_the_address_is_what_the_outermost_trusted_proxy_has_seen(
    trusted_proxies: int, forwarded: list[str], expected: str
) -> None:
    assert find(trusted_proxies, *forwarded) == expected


@pytest.mark.parametrize("forged", ["10.0.0.1", "10.0.0.1, 10.0.0.2, 10.0.0.3", "", ",", "unknown", "x" * 200])
def test_what_a_client_wrote_itself_is_ignored(forged: str) -> None:
    assert find(1, f"{forged}, 203.0.113.1") == "203.0.113.1"
    assert find(1, forged, "203.0.113.1") == "203.0.113.1"
    assert find(2, forged, "203.0.113.1, 198.51.100.1") == "203.0.113.1"


def test_with_fewer_hops_than_proxies_the_first_hop_counts() -> None:
    assert find(1) == PEER
    assert find(3, "203.0.113.1") == "203.0.113.1"
    assert find(3, "203.0.113.1, 198.51.100.1") == "203.0.113.1"


@pytest.mark.parametrize("empty", ["", " ", "203.0.113.1,", "203.0.113.1, "])
def test_an_empty_part_is_no_address(empty: str) -> None:
    assert find(1, empty) == UNKNOWN


def test_a_connection_without_an_address_is_unknown() -> None:
    assert find(0, peer=None) == UNKNOWN
    assert find(1, "203.0.113.1", peer=None) == "203.0.113.1"

"""Tests of the networks that rate limits count by."""

import pytest

from portal.rules.client_networks import UNKNOWN, find_client_network


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("", UNKNOWN),
        (None, UNKNOWN),
        ("192.0.2.7:4711", UNKNOWN),
        (10_000 * "a", UNKNOWN),
    ],
)
def test_network_of_an_address(address: str | None, network: str) -> None:
    assert find_client_network(address) == network

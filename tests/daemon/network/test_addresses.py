"""Networks of addresses, and which network may refer to which."""

from __future__ import annotations

import pytest

from daemon.network.addresses import Network, may_refer, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("93.184.215.14", Network.PUBLIC),
        ("2606:4700::6810:84e5", Network.PUBLIC),
        ("10.1.2.3", Network.PRIVATE),
        ("172.17.0.2", Network.PRIVATE),
        ("192.168.1.1", Network.PRIVATE),
        ("100.64.0.1", Network.PRIVATE),
        ("fd12::1", Network.PRIVATE),
        ("224.0.0.1", Network.PRIVATE),
        ("ff02::1", Network.PRIVATE),
        ("240.0.0.1", Network.PRIVATE),
        ("127.0.0.1", Network.LOOPBACK),
        ("127.8.8.8", Network.LOOPBACK),
        ("0.0.0.0", Network.LOOPBACK),
        ("::", Network.LOOPBACK),
        ("::1", Network.LOOPBACK),
        ("169.254.7.7", Network.LINK_LOCAL),
        ("fe80::1", Network.LINK_LOCAL),
        ("fe80::1%eth0", Network.LINK_LOCAL),
        ("169.254.169.254", Network.METADATA),
        ("fd00:ec2::254", Network.METADATA),
        ("fd00:ec2::254%eth0", Network.METADATA),
        ("100.100.100.200", Network.METADATA),
        ("168.63.129.16", Network.METADATA),
        ("::ffff:127.0.0.1", Network.LOOPBACK),
        ("::ffff:169.254.169.254", Network.METADATA),
        ("64:ff9b::10.0.0.1", Network.PRIVATE),
        ("2002:a9fe:a9fe::1", Network.METADATA),
        ("::ffff:93.184.215.14", Network.PUBLIC),
    ],
)
def test_network_of_an_address(address: str, network: Network) -> None:
    assert network_of(address) is network


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        (Network.PUBLIC, {Network.PUBLIC}),
        (Network.PRIVATE, {Network.PUBLIC, Network.PRIVATE}),
        (Network.LINK_LOCAL, {Network.PUBLIC, Network.LINK_LOCAL}),
        (Network.LOOPBACK, {Network.PUBLIC, Network.PRIVATE, Network.LOOPBACK}),
        (Network.METADATA, {Network.PUBLIC}),
    ],
)
def test_networks_to_which_a_server_may_refer(source: Network, targets: set[Network]) -> None:
    assert {target for target in Network if may_refer(source, target)} == targets

"""Networks of IP addresses, and which of them a server may refer clients to. Used by HTTP connections.

A registry names other servers: in redirects, and as its token server. Without this rule, a registry on the internet
could make workers send requests to servers that only the operator's machines reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # credentials of containers
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
    )
)
"""Where clouds hand out the credentials of a machine to every process on it."""


class Network(StrEnum):
    """A kind of network. The values are for display: `a server on …`."""

    PUBLIC = "the internet"
    PRIVATE = "a private network"
    LINK_LOCAL = "the local link"
    LOOPBACK = "this machine"
    METADATA = "the metadata service of a cloud"


_REACHABLE = {
    Network.PRIVATE: {Network.PRIVATE},
    Network.LINK_LOCAL: {Network.LINK_LOCAL},
    Network.LOOPBACK: {Network.LOOPBACK, Network.PRIVATE},
}


class AddressRefused(Exception):
    """A server refers to an address on a network to which it may not refer. The message names both."""


class AddressGuard:
    """Checks the addresses of one connection, and records the network to which it was made.

    Args:
        host: the host of the URL. Its network is known before the connection if it is an address.
        named_by: the network of the server that named the host; None for a host from the operator's configuration,
            which may have any address.
    """

    def __init__(self, host: str, named_by: Network | None) -> None:
        self._host = host
        self._named_by = named_by
        # Through a proxy, the address of a name remains unknown: the proxy decides what it connects to.
        self.network = network_of(host) if _is_address(host) else Network.PUBLIC

    def permit_host(self) -> None:
        """Check the host itself if it is an address, which a proxy would connect to.

        Raises:
            AddressRefused: the connection is forbidden.
        """
        if _is_address(self._host):
            self.permit([self._host])

    def permit(self, addresses: Sequence[str]) -> None:
        """Check all addresses of the host.

        Raises:
            AddressRefused: the connection is forbidden.
        """
        for address in addresses:
            if self._named_by is not None and not may_refer(self._named_by, network_of(address)):
                raise AddressRefused(f"{self._host}, which is on {network_of(address)} ({address})")

    def record(self, address: str) -> None:
        """Record the address to which the connection was made."""
        self.network = network_of(address)


def may_refer(source: Network, target: Network) -> bool:
    """Return whether a server on one network may refer clients to a server on another.

    Every server may refer to the internet, and a server on another network to its own kind of network. A registry
    on this machine belongs to the operator, whose token server may be on a private network. No server may refer to a
    metadata service.
    """
    return target is Network.PUBLIC or target in _REACHABLE.get(source, set())


def network_of(address: str) -> Network:
    """Return the network of an IP address. Addresses that contain an IPv4 address belong to the network of that."""
    found = _unwrap(ip_address(address))
    if found in _METADATA:
        return Network.METADATA
    if found.is_loopback or found.is_unspecified:  # Linux connects 0.0.0.0 to this machine
        return Network.LOOPBACK
    if found.is_link_local:
        return Network.LINK_LOCAL
    return Network.PUBLIC if found.is_global and not found.is_multicast else Network.PRIVATE


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or IPv6Address(address.packed)  # without the name of an interface


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

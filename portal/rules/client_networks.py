"""The network of a client, by which rate limits count. Used by all limits of the portal."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

UNKNOWN = "unknown"

_IPV6_PREFIX = 64
"""Providers assign at least this prefix to each customer, so one customer has 2^64 addresses or more."""


def find_client_network(address: str | None) -> str:
    """Return the network to count a client by: an IPv4 address or an IPv6 /64.

    Args:
        address: the client's address; None if it is not known.

    Returns:
        The network. All clients without a valid address share one, so that they cannot avoid a limit.
    """
    try:
        client = ip_address(address or "")
    except ValueError:
        return UNKNOWN
    if not isinstance(client, IPv6Address):
        return str(client)
    if client.ipv4_mapped is not None:
        return str(client.ipv4_mapped)
    return str(ip_network((int(client), _IPV6_PREFIX), strict=False))

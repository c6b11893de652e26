"""Hosts of bots, and whether a request comes from a page of the same host. Used by the gateway.

The bots of other customers are on sibling hosts, which browsers call the same site. SameSite cookies are therefore
not enough to tell a request of the bot's own pages from a request of another bot's pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OWN_SITES = frozenset({"same-origin", "none"})


def is_valid_host(host: str) -> bool:
    """Return whether a `Host` header has the form of a host name or address, with an optional port."""
    return _HOST.fullmatch(host) is not None


def find_subdomain(host: str, domain: str, scheme: str) -> str | None:
    """Return the subdomain of a bot's host; None for any other host.

    Args:
        host: the `Host` header.
        domain: domain of the bots, with a port unless it is the default of the scheme.
        scheme: `http` or `https`.
    """
    name = host.lower()
    if ":" not in domain:
        name = name.removesuffix(_DEFAULT_PORTS[scheme])
    label, dot, rest = name.partition(".")
    return label if dot and rest == domain and _LABEL.fullmatch(label) else None


def comes_from_own_page(sites: Sequence[str], origins: Sequence[str], own_origin: str) -> bool:
    """Return whether a browser sent a request from a page of the same host, or because its user typed the address.

    Args:
        sites: all values of `Sec-Fetch-Site`.
        origins: all values of `Origin`.
        own_origin: scheme and host of the bot.
    """
    if sites:
        return len(sites) == 1 and sites[0] in _OWN_SITES
    return len(origins) == 1 and origins[0].lower() == own_origin

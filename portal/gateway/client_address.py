"""The network address of a client behind trusted proxies. Used for the header that tells it to the bot."""

from __future__ import annotations

from portal.gateway.http.connections import UNKNOWN
from portal.gateway.http.requests import BrowserRequest


def find_client_address(browser: BrowserRequest, trusted_proxies: int) -> str:
    """Return the address of the client.

    Args:
        browser: the request.
        trusted_proxies: number of proxies in front of the gateway that append to `X-Forwarded-For`.
    """
    peer = browser.connection.peer
    if not trusted_proxies:
        return peer
    forwarded = [part.strip() for value in browser.values("x-forwarded-for") for part in value.split(",")]
    hops = [*forwarded, peer]
    return hops[-1 - min(trusted_proxies, len(hops) - 1)] or UNKNOWN

"""The headers that a bot receives with a request: those of the browser that pass, and the identity of the caller.

Used by the handler of requests.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from portal.gateway import assertions
from portal.gateway.assertions import Assertions
from portal.gateway.client_address import find_client_address
from portal.gateway.http.requests import BrowserRequest
from portal.rules import proxy_headers
from portal.rules.proxy_headers import Headers
from portal.services.gateway.visits import Visit
from portal.settings import Settings

_MAX_REUSED = 10_000


class BotHeaders:
    """Builds the headers for bots.

    Args:
        settings: settings of this installation.
        issuer: signs assertions of identity.
    """

    def __init__(self, settings: Settings, issuer: Assertions) -> None:
        self._scheme = urlsplit(settings.base_url).scheme
        self._trusted_proxies = settings.trusted_proxies
        self._issuer = issuer

    def build(self, browser: BrowserRequest, visit: Visit) -> Headers:
        """Return the headers for the bot, the identity last.

        Raises:
            MalformedRequest: a header that must be unique occurs several times.
        """
        headers = [
            ("Host", browser.host),
            *browser.headers.for_bot,
            ("X-Forwarded-For", find_client_address(browser, self._trusted_proxies)),
            ("X-Forwarded-Host", browser.host),
            ("X-Forwarded-Proto", self._scheme),
        ]
        return proxy_headers.add_identity(headers, self._build_identity(visit))

    def _build_identity(self, visit: Visit) -> Headers:
        identity = _build_names(visit.header_prefix, visit.user_id, visit.email, visit.name)
        assertion = self._issuer.issue(visit)
        return [*identity, (assertions.HEADER, assertion)] if assertion is not None else [*identity]


@lru_cache(_MAX_REUSED)
def _build_names(prefix: str, user_id: str, email: str, name: str) -> Headers:
    return proxy_headers.build_identity(prefix, user_id=user_id, email=email, name=name)

"""The client's address and network, and protection from forged headers. Used by `create_app` and all rate limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from portal.rules.client_networks import find_client_network
from portal.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def init_app(app: Flask, settings: Settings) -> None:
    """Take the client's address from trusted proxies, and nothing else from any header of a proxy."""
    application: WSGIApplication = _FixedOrigin(app.wsgi_app, urlsplit(settings.base_url).scheme)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        application = ProxyFix(application, x_for=hops, x_proto=0, x_host=0, x_port=0, x_prefix=0)
    app.wsgi_app = application  # type: ignore[assignment, method-assign]


def current_network() -> str:
    """Return the network of the current request's client, by which all limits count."""
    return find_client_network(request.remote_addr)


class _FixedOrigin:
    """WSGI middleware that sets scheme and root of the portal by the settings and removes the headers of proxies.

    Some servers accept both from requests: from `X-Forwarded-Proto` and from a header `SCRIPT_NAME`.

    Args:
        application: the application.
        scheme: the scheme of `BASE_URL`.
    """

    def __init__(self, application: WSGIApplication, scheme: str) -> None:
        self._application = application
        self._scheme = scheme

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application."""
        for name in [name for name in environ if name.startswith(("HTTP_X_FORWARDED_", "HTTP_FORWARDED"))]:
            del environ[name]
        environ["SCRIPT_NAME"] = ""
        environ["wsgi.url_scheme"] = self._scheme
        return self._application(environ, start_response)

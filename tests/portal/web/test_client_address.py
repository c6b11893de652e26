"""What the portal believes about the origin of a request: forwarded addresses, schemes, hosts and prefixes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, request

from portal.app import create_app
from portal.settings import Settings

pytestmark = pytest.mark.requests

FORGED = {
    "HTTP_FORWARDED": "for=203.0.113.9;proto=https;host=evil.example",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "evil.example",
    "HTTP_X_FORWARDED_PORT": "1",
    "HTTP_X_FORWARDED_PREFIX": "/evil",
    "SCRIPT_NAME": "/evil",
    "wsgi.url_scheme": "https",
}


def see(app: Flask, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what a view sees of a request with this WSGI environment."""
    seen: dict[str, Any] = {}

    @app.before_request
    def _record() -> str:
        seen.update(address=request.remote_addr, root=request.root_url, headers=dict(request.headers))
        return "seen"

    assert app.test_client().get("/login", environ_overrides=dict(environ)).text == "seen"
    return seen


@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_headers_do_not_change_scheme_host_or_prefix(settings: Settings, redis_url: str, proxies: int) -> None:
    app = create_app(replace(settings, redis_url=redis_url, base_url="http://localhost", trusted_proxies=proxies))
    seen = see(app, FORGED)
    assert seen["root"] == "http://localhost/"
    assert not any(name.startswith(("X-Forwarded", "Forwarded")) for name in seen["headers"])


def test_scheme_is_that_of_the_base_url(settings: Settings, redis_url: str) -> None:
    app = create_app(replace(settings, redis_url=redis_url, base_url="https://localhost", trusted_proxies=1))
    assert see(app, {"HTTP_X_FORWARDED_PROTO": "http"})["root"] == "https://localhost/"


@pytest.mark.parametrize(
    ("proxies", "expected"), [(0, "192.0.2.1"), (1, "203.0.113.3"), (2, "203.0.113.2"), (4, "192.0.2.1")]
)
def test_address_comes_from_trusted_proxies_only(
    settings: Settings, redis_url: str, proxies: int, expected: str
) -> None:
    app = create_app(replace(settings, redis_url=redis_url, base_url="http://localhost", trusted_proxies=proxies))
    forwarded = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "203.0.113.1, 203.0.113.2, 203.0.113.3"}
    assert see(app, forwarded)["address"] == expected

"""Hosts of bots, and requests from other hosts."""

from __future__ import annotations

import pytest

from portal.rules.bot_hosts import comes_from_own_page, find_subdomain, is_valid_host

OWN = "https://acme.bots.example"


@pytest.mark.parametrize(
    ("host", "domain", "scheme", "expected"),
    [
        ("acme.bots.example", "bots.example", "https", "acme"),
        ("ACME.Bots.Example", "bots.example", "https", "acme"),
        ("acme.bots.example:443", "bots.example", "https", "acme"),
        ("acme.bots.example:80", "bots.example", "http", "acme"),
        ("acme.bots.example:80", "bots.example", "https", None),
        ("acme.bots.example:8080", "bots.example", "https", None),
        ("acme.localhost:8080", "localhost:8080", "http", "acme"),
        ("acme.localhost", "localhost:8080", "http", None),
        ("acme.localhost:80", "localhost:8080", "http", None),
        ("bots.example", "bots.example", "https", None),
        (".bots.example", "bots.example", "https", None),
        ("a.b.bots.example", "bots.example", "https", None),
        ("acme.bots.example.evil.example", "bots.example", "https", None),
        ("acme.xbots.example", "bots.example", "https", None),
        ("acme.bots.example.", "bots.example", "https", None),
        ("-acme.bots.example", "bots.example", "https", None),
        ("ac_me.bots.example", "bots.example", "https", None),
        ("", "bots.example", "https", None),
        ("127.0.0.1:8080", "localhost:8080", "http", None),
    ],
)
def test_subdomains(host: str, domain: str, scheme: str, expected: str | None) -> None:
    assert find_subdomain(host, domain, scheme) == expected


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", "a,b", "a:", "a:b", "a:999999", "é.example", "a\tb"])
def test_invalid_hosts(host: str) -> None:
    assert not is_valid_host(host)


@pytest.mark.parametrize("host", ["acme.bots.example", "127.0.0.1:8080", "[::1]:8080", "A-1.example:1"])
def test_valid_hosts(host: str) -> None:
    assert is_valid_host(host)


@pytest.mark.parametrize(
    ("sites", "origins", "expected"),
    [
        (["same-origin"], [], True),
        (["none"], [], True),
        (["same-origin"], ["https://evil.example"], True),  # browsers set Sec-Fetch-Site, pages cannot
        (["same-site"], [OWN], False),
        (["cross-site"], [], False),
        ([""], [OWN], False),
        (["same-origin", "cross-site"], [], False),
        (["Same-Origin"], [], False),
        ([], [OWN], True),
        ([], ["HTTPS://ACME.bots.example"], True),
        ([], ["https://other.bots.example"], False),
        ([], ["http://acme.bots.example"], False),
        ([], ["https://acme.bots.example:8443"], False),
        ([], ["null"], False),
        ([], [OWN, OWN], False),
        ([], [], False),
    ],
)
def test_requests_from_other_pages(sites: list[str], origins: list[str], expected: bool) -> None:
    assert comes_from_own_page(sites, origins, OWN) is expected

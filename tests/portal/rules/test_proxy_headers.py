"""Headers: what passes between browser and bot, and the identity, which no client can forge."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.rules import proxy_headers
from portal.rules.proxy_headers import MalformedRequest

IDENTITY = proxy_headers.build_identity("x-platform-user", user_id="u1", email="bob@example.com", name="Bob")
NOT_FORWARDED = """
X-Platform-User-Id x-platform-user-id X_Platform_User_Id x-platform_user-id X-PLATFORM-USER-EMAIL
x-platform-assertion Authorization Proxy-Authorization Cookie X-Forwarded-For X-Forwarded-Host Forwarded
X-Real-Ip X-Original-Url X-Rewrite-Url X-Http-Method-Override Connection Keep-Alive Te Trailer Transfer-Encoding
Upgrade Host Content-Length Expect hx_request sec-fetch_site Hx-A_b
"""
NOT_ANSWERED = """
Clear-Site-Data Service-Worker-Allowed Strict-Transport-Security Alt-Svc X-Accel-Redirect X-Accel-Buffering
X-Sendfile Connection Transfer-Encoding Upgrade Trailer Set-Cookie2 Content-Length
"""
INNER, OUTER = "127.0.0.1:20001", "https://acme.bots.example"


@pytest.mark.parametrize(
    "name",
    NOT_FORWARDED.split(),
)
def test_headers_outside_the_allowlist_do_not_pass(name: str) -> None:
    assert proxy_headers.select_request_headers([(name, "forged")]) == []


def test_allowed_headers_pass_and_lists_are_joined() -> None:
    raw = [("Accept", "text/html"), ("HX-Request", "true"), ("accept", "*/*"), ("Range", "bytes=0-1")]
    assert proxy_headers.select_request_headers(raw) == [
        ("accept", "text/html, */*"),
        ("hx-request", "true"),
        ("range", "bytes=0-1"),
    ]


@pytest.mark.parametrize("name", ["Content-Type", "Range", "Origin", "Sec-Fetch-Site", "X-CSRF-Token"])
def test_a_unique_header_that_occurs_twice_is_refused(name: str) -> None:
    with pytest.raises(MalformedRequest):
        proxy_headers.select_request_headers([(name, "a"), (name.upper(), "b")])


def test_headers_that_connection_nominates_do_not_pass() -> None:
    raw = [("Connection", "keep-alive, X-CSRF-Token"), ("X-Csrf-Token", "1"), ("connection", "range"), ("Range", "x")]
    assert proxy_headers.select_request_headers(raw) == []


@given(st.lists(st.tuples(st.text(alphabet="xX-_platformuserid", min_size=1, max_size=20), st.text(max_size=5))))
def test_the_identity_is_always_ours(raw: list[tuple[str, str]]) -> None:
    try:
        selected = proxy_headers.select_request_headers(raw)
    except MalformedRequest:
        return
    headers = proxy_headers.add_identity(selected, IDENTITY)
    seen = {name.replace("_", "-").lower(): value for name, value in headers}
    assert [seen[name] for name, _ in IDENTITY] == ["u1", "bob@example.com", "Bob"]
    assert len([name for name, _ in headers if name.replace("_", "-").startswith("x-platform-user-")]) == 3


def test_an_identity_prefix_wins_over_an_allowed_header_of_the_same_name() -> None:
    identity = proxy_headers.build_identity("hx-user", user_id="u1", email="a@b", name="A")
    selected = proxy_headers.select_request_headers([("HX-User-Id", "forged"), ("hx-request", "true")])
    assert proxy_headers.add_identity(selected, identity) == [("hx-request", "true"), *identity]


@pytest.mark.parametrize("prefix", ["", "X-User", "x_user", "x-user-", "x user", "x-user\r\n", "-x"])
def test_invalid_prefixes_are_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot begin"):
        proxy_headers.build_identity(prefix, user_id="u", email="e", name="n")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_an_identity_value_is_short_printable_ascii_and_can_be_decoded(text: str) -> None:
    value = proxy_headers.encode_value(text)
    assert len(value.encode("ascii")) <= 256
    assert value == value.strip()
    assert value.isprintable()
    assert text.strip().startswith(unquote(value, errors="strict"))
    if len(text) < 20:
        assert unquote(value).strip() == text.strip()


def test_names_with_percent_signs_and_accents_are_encoded() -> None:
    assert proxy_headers.encode_value("Zoë 100% \r\nX: y") == "Zo%C3%AB 100%25 %0D%0AX: y"


def test_cookies_of_portal_and_gateway_are_removed() -> None:
    values = [
        "theme=dark; __Host-flotilla-session=s; flotilla-session=s; lang=en",
        " FLOTILLA-device=x;__Secure-flotilla-x=1; __host-Flotilla-gateway=g;a=b=c; flag",
    ]
    assert proxy_headers.filter_cookies(values) == "theme=dark; lang=en; a=b=c; flag"
    assert proxy_headers.filter_cookies(["flotilla-gateway = 1;"]) is None
    assert proxy_headers.filter_cookies([]) is None


def test_the_first_cookie_of_a_name_is_found() -> None:
    assert proxy_headers.find_cookie(["a=1; b=2", "b=3"], "b") == "2"
    assert proxy_headers.find_cookie(["bb=2"], "b") is None


@pytest.mark.parametrize(
    "cookie",
    [
        "a=1; Domain=bots.example",
        "a=1;domain = .example",
        "a=1; Path=/; DOMAIN",
        "__Host-flotilla-gateway=x; Secure; Path=/",
        "flotilla-session=x",
        " __Secure-FLOTILLA-x=1",
        "=__Host-flotilla-gateway=x",
        "novalue",
        "",
    ],
)
def test_harmful_cookies_of_bots_are_dropped(cookie: str) -> None:
    assert proxy_headers.select_response_headers([("Set-Cookie", cookie)], inner=INNER, outer=OUTER) == []


def test_own_cookies_of_bots_pass() -> None:
    raw = [("Set-Cookie", "sid=1; Path=/; HttpOnly"), ("set-cookie", "__Host-sid=2; Secure; Path=/")]
    assert proxy_headers.select_response_headers(raw, inner=INNER, outer=OUTER) == raw


@pytest.mark.parametrize(
    "name",
    NOT_ANSWERED.split(),
)
def test_responses_cannot_harm_other_hosts(name: str) -> None:
    assert proxy_headers.select_response_headers([(name, "x=1")], inner=INNER, outer=OUTER) == []


def test_other_headers_of_responses_pass_unchanged() -> None:
    raw = [("Content-Encoding", "gzip"), ("ETag", '"1"'), ("X-Anything_At-All", "1"), ("Vary", "a"), ("vary", "b")]
    assert proxy_headers.select_response_headers(raw, inner=INNER, outer=OUTER) == raw
    nominated = [("Connection", "x-hop"), ("X-Hop", "1")]
    assert proxy_headers.select_response_headers(nominated, inner=INNER, outer=OUTER) == []


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://127.0.0.1:20001/notes?a=1#b", "https://acme.bots.example/notes?a=1#b"),
        ("//127.0.0.1:20001/notes", "https://acme.bots.example/notes"),
        ("http://127.0.0.1:20001", "https://acme.bots.example"),
        ("/notes", "/notes"),
        ("../x", "../x"),
        ("http://127.0.0.1:20002/other", "http://127.0.0.1:20002/other"),
        ("http://169.254.169.254/latest", "http://169.254.169.254/latest"),
        ("http://user@127.0.0.1:20001/", "http://user@127.0.0.1:20001/"),
        ("javascript://127.0.0.1:20001/%0aalert(1)", "javascript://127.0.0.1:20001/%0aalert(1)"),
        ("http://[x", "http://[x"),
        ("", ""),
    ],
)
def test_the_inner_address_is_replaced_in_redirects(location: str, expected: str) -> None:
    raw = [("Location", location)]
    assert proxy_headers.select_response_headers(raw, inner=INNER, outer=OUTER) == [("Location", expected)]


@pytest.mark.parametrize("location", ["/notes", "notes?a=1", "", "//", "http:/notes"])
def test_a_redirect_without_a_host_is_not_changed(location: str) -> None:
    raw = [("Location", location)]
    assert proxy_headers.select_response_headers(raw, inner="", outer=OUTER) == raw

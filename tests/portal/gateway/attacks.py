"""Raw requests that attack the gateway. Used by `test_attacks.py`.

Each is sent over a socket as it is, with the session of a member. The bot must not see a forged identity, a cookie of
portal or gateway, or a path of `/internal`, and must not see more requests than the gateway was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.gateway import COOKIE

FORGED = "forged-by-a-client"


@dataclass(frozen=True)
class Attack:
    """A raw request.

    Attributes:
        name: what it tries.
        request: the bytes.
        status: the status of the first response; None if several are right.
    """

    name: str
    request: bytes
    status: int | None = None


def build(
    host: str,
    token: str,
    *lines: str,
    target: str = "/",
    method: str = "GET",
    version: str = "HTTP/1.1",
    body: str = "",
    hosts: tuple[str, ...] | None = None,
) -> bytes:
    """Build a request with the session of a member, and further lines."""
    head = [
        f"{method} {target} {version}",
        *(f"Host: {name}" for name in ((host,) if hosts is None else hosts)),
        f"Cookie: {COOKIE}={token}; flotilla-session=portal-secret",
        "Sec-Fetch-Site: same-origin",
        *lines,
        "Connection: close" if not any(line.lower().startswith("connection") for line in lines) else "X-Pad: 1",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("latin-1")


def list_attacks(host: str, token: str) -> list[Attack]:
    """Return all attacks against the bot at a host."""
    return [
        *_identity(host, token),
        *_internal(host, token),
        *_framing(host, token),
        *_hosts(host, token),
        *_malformed(host, token),
        *_upgrades(host, token),
    ]


def _identity(host: str, token: str) -> Iterator[Attack]:
    fields = ("id", "email", "name")
    for field in fields:
        name = f"x-platform-user-{field}"
        spellings = [
            name,
            name.upper(),
            name.title(),
            name.replace("-", "_"),
            name.replace("-", "_").upper(),
            name.replace("-user-", "_user-"),
            name.replace("-platform", "_platform"),
            f"{name[:-1]}{name[-1].upper()}",
        ]
        for spelling in spellings:
            yield Attack(f"forged {spelling}", build(host, token, f"{spelling}: {FORGED}"), 200)
            twice = build(host, token, f"{spelling}: {FORGED}", f"{spelling}: {FORGED}2")
            yield Attack(f"forged {spelling} twice", twice, 200)
        for broken in (f"{name} : {FORGED}", f" {name}: {FORGED}", f"{name}\t: {FORGED}", f"{name}\x00: {FORGED}"):
            yield Attack(f"malformed name {broken!r}", build(host, token, broken), 400)
        for folded in (f"Accept: a\r\n {name}: {FORGED}", f"Accept: a\r\n\t{name}: {FORGED}"):
            yield Attack(f"folded {folded!r}", build(host, token, folded))
        for bare in (
            f"Accept: a\n{name}: {FORGED}",
            f"Accept: a\r{name}: {FORGED}",
            f"Accept: a\x0b{name}: {FORGED}",
        ):
            yield Attack(f"line ending {bare!r}", build(host, token, bare))
        nominated = build(host, token, f"Connection: close, {name}", f"{name}: {FORGED}")
        yield Attack(f"nominated {name}", nominated, 200)
        yield Attack(f"nominated without a value {name}", build(host, token, f"Connection: close, {name}"), 200)
        chunked = build(
            host,
            token,
            "Transfer-Encoding: chunked",
            f"Trailer: {name}",
            method="POST",
            body=f"1\r\na\r\n0\r\n{name}: {FORGED}\r\n\r\n",
        )
        yield Attack(f"trailer {name}", chunked, 200)
    for name in (
        "X-Platform-Assertion", "X_Platform_Assertion", "Authorization", "Proxy-Authorization", "X-Forwarded-For",
        "X-Forwarded-Host", "X-Forwarded-Proto", "X_Forwarded_For", "Forwarded", "X-Real-IP", "X-Remote-User",
        "Remote-User", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-User",
        "X-Auth-Request-Email", "X-Original-Host", "X-Host", "Via", "Max-Forwards", "X-Accel-Redirect",
    ):  # fmt: skip
        yield Attack(f"header {name}", build(host, token, f"{name}: {FORGED}"), 200)


def _internal(host: str, token: str) -> Iterator[Attack]:
    closed = """
    /internal /internal/ /internal/members/add /internal?x //internal ///internal/x /INTERNAL /Internal/Members
    /%69nternal /%49nternal /interna%6c /%69%6E%74%65%72%6E%61%6C /%2569nternal /%252569nternal /internal;a=b
    /internal;/x /;/internal /;a/internal /internal%20 /internal. /internal%3f /internal%23 /%EF%BD%89nternal
    /%C4%B1nternal /intern%C3%A1l /int%C2%ADernal /%E2%80%8Binternal
    """.split()  # noqa: SIM905
    malformed = """
    /a/../internal /../internal /./internal /a/./../internal /%2e%2e/internal /a/%2e%2e/internal /a/%2E./internal
    /%2e/internal /..;/internal /a/..;x/internal /a/..%3b/internal /%252e%252e/internal /a/%25252e%25252e/internal
    /%2finternal /%2Finternal /%252finternal /a%2f..%2finternal /%5cinternal /%5Cinternal /\\internal /a\\..\\internal
    /..\\internal /%255cinternal /%c0%afinternal /%c0%ae%c0%ae/internal /%e0%80%afinternal /%f0%80%80%afinternal
    /%c1%9cinternal /%00internal /internal%00 /internal%00.html /%2500internal /internal%0a /internal%0d%0aX:%20y
    /%0d%0ainternal /internal%09 /%ff/internal /internal%ff /%EF%BC%8Finternal /%E2%80%A5/internal /%u0069nternal
    /%zzinternal /%internal /internal% /internal%2 /#/internal /internal#x /%2525252525252569nternal
    http://bot/internal https://bot/internal http:///internal internal ?internal *
    """.split()  # noqa: SIM905
    for method in ("GET", "POST"):
        for target in closed:
            yield Attack(f"{method} {target}", build(host, token, target=target, method=method), 404)
        for target in malformed:
            yield Attack(f"{method} {target}", build(host, token, target=target, method=method), 400)
    absolute = build(host, token, target=f"http://{host}/internal")
    yield Attack("absolute form", absolute, 400)
    for raw in ("/inter nal", "/internal\t", "/\u00e9", "/internal\x7f", "/\xff"):
        yield Attack(f"raw {raw!r}", build(host, token, target=raw), 400)


def _framing(host: str, token: str) -> Iterator[Attack]:
    smuggled = f"GET /internal HTTP/1.1\r\nHost: {host}\r\nX-Platform-User-Id: {FORGED}\r\n\r\n"
    cases = {
        "length and chunked": ("Content-Length: 5", "Transfer-Encoding: chunked"),
        "chunked and length": ("Transfer-Encoding: chunked", "Content-Length: 5"),
        "two lengths": ("Content-Length: 0", "Content-Length: 40"),
        "two equal lengths": ("Content-Length: 5", "Content-Length: 5"),
        "list of lengths": ("Content-Length: 5, 5",),
        "signed length": ("Content-Length: +5",),
        "negative length": ("Content-Length: -1",),
        "hexadecimal length": ("Content-Length: 0x5",),
        "length with a space": ("Content-Length: 5 0",),
        "empty length": ("Content-Length:",),
        "underscore length": ("Content-Length: 1_0",),
        "full-width length": ("Content-Length: \xb2",),
        "huge length": ("Content-Length: 99999999999999999999999999",),
        "space before the colon": ("Content-Length : 5",),
        "chunked twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        "chunked and identity": ("Transfer-Encoding: chunked, identity",),
        "identity": ("Transfer-Encoding: identity",),
        "gzip, chunked": ("Transfer-Encoding: gzip, chunked",),
        "xchunked": ("Transfer-Encoding: xchunked",),
        "quoted chunked": ('Transfer-Encoding: "chunked"',),
        "chunked with a vertical tab": ("Transfer-Encoding: \x0bchunked",),
        "folded chunked": ("Transfer-Encoding:\r\n chunked",),
        "coding with a space": ("Transfer-Encoding : chunked",),
        "underscore coding": ("Transfer_Encoding: chunked", "Content-Length: 5"),
        "coding with NUL": ("Transfer-Encoding: chunked\x00",),
        "comma": ("Transfer-Encoding: ,chunked",),
    }
    for name, lines in cases.items():
        for method in ("POST", "GET"):
            for body in ("0\r\n\r\n" + smuggled, smuggled):
                yield Attack(f"{method} {name}", build(host, token, *lines, method=method, body=body))
    for name, body in {
        "chunk size overflow": "ffffffffffffffff1\r\n" + smuggled,
        "negative chunk size": "-1\r\n" + smuggled,
        "chunk size with 0x": "0x5\r\nhello\r\n0\r\n\r\n" + smuggled,
        "bare line feed in chunks": "5\nhello\n0\n\n" + smuggled,
        "chunk without end": "5\r\nhelloXX0\r\n\r\n" + smuggled,
        "chunk extension": "5;a=\r\n" + smuggled,
        "chunk extension with a line feed": "0;a\n\r\n\r\n" + smuggled,
        "space in chunk size": "5 5\r\nhello\r\n0\r\n\r\n" + smuggled,
        "no chunk": smuggled,
    }.items():
        yield Attack(name, build(host, token, "Transfer-Encoding: chunked", method="POST", body=body))
    for version in (
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/11",
        "http/1.1",
        "HTTP/1.1 ",
        "XTTP/1.1",
        "",
    ):
        lines = ("Transfer-Encoding: chunked",)
        request = build(host, token, *lines, method="POST", version=version, body="0\r\n\r\n" + smuggled)
        yield Attack(f"version {version!r}", request)


def _hosts(host: str, token: str) -> Iterator[Attack]:
    other = host.replace("paperclip-1", "paperclip-2")
    for name, hosts in {
        "no host": (),
        "two hosts": (host, other),
        "the same host twice": (host, host),
        "empty host": ("",),
        "host with a path": (f"{host}/internal",),
        "host with user": (f"user@{host}",),
        "host with a space": (f"{host} x",),
        "list of hosts": (f"{host}, {other}",),
        "host with a broken port": (f"{host}x",),
        "host with a tab": (f"{host}\tx",),
        "host with NUL": (f"{host}\x00",),
        "host in brackets": (f"[{host}]",),
    }.items():
        yield Attack(name, build(host, token, hosts=hosts), 400)
    for name, hosts in {
        "another bot": (other,),
        "the host of another installation": ("paperclip-1.evil.example",),
        "a deeper host": (f"x.{host}",),
        "the domain": (host.removeprefix("paperclip-1."),),
        "an inner address": ("169.254.169.254",),
        "another port": (host.rpartition(":")[0] + ":1",),
    }.items():
        yield Attack(name, build(host, token, hosts=hosts))


def _malformed(host: str, token: str) -> Iterator[Attack]:
    for method in ("CONNECT", "TRACE", "TRACK", "PROPFIND", "get", "G ET", "", "DEBUG", "PRI", "M-SEARCH", "G\x00T"):
        yield Attack(f"method {method!r}", build(host, token, method=method))
    yield Attack("connect", build(host, token, method="CONNECT", target="127.0.0.1:22"))
    yield Attack("long target", build(host, token, target="/" + "a" * 9000))
    yield Attack("long header", build(host, token, f"Accept: {'a' * 9000}"))
    yield Attack("many headers", build(host, token, *(f"X-{number}: 1" for number in range(200))))
    yield Attack("many bytes", build(host, token, *(f"X-{number}: {'a' * 8000}" for number in range(8))))
    yield Attack("no colon", build(host, token, "Accept"))
    yield Attack("no name", build(host, token, ": x"))
    yield Attack("control character", build(host, token, "Accept: a\x01b"))
    yield Attack("deleted character", build(host, token, "Accept: a\x7fb"))
    yield Attack("bytes that are not UTF-8", build(host, token, "Accept: \xff\xfe"))
    yield Attack("two content types", build(host, token, "Content-Type: a/b", "content-type: c/d"), 400)
    yield Attack("expectation", build(host, token, "Expect: a-miracle"), 417)
    yield Attack("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 30)
    yield Attack("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100)
    yield Attack("noise", bytes(range(256)) * 4)
    yield Attack("leading line ends", b"\r\n\r\n" + build(host, token, target="/internal"))
    for cookie in (
        "__Host-flotilla-session=portal-secret", "FLOTILLA-SESSION=portal-secret", "flotilla-session =portal-secret",
        "\tflotilla-device=portal-secret", "__Secure-flotilla-visitor=portal-secret",
        "a=1;flotilla-session=portal-secret", ";;flotilla-session=portal-secret",
        'a="; flotilla-session=portal-secret',
    ):  # fmt: skip
        yield Attack(f"cookie {cookie!r}", build(host, token, f"Cookie: {cookie}"), 200)


def _upgrades(host: str, token: str) -> Iterator[Attack]:
    smuggled = f"GET /internal HTTP/1.1\r\nHost: {host}\r\nX-Platform-User-Id: {FORGED}\r\n\r\n"
    for upgrade in (
        "h2c",
        "websocket",
        "WebSocket",
        "websocket, h2c",
        "h2c, websocket",
        "TLS/1.0",
        "\x0bwebsocket",
        "",
    ):
        lines = (
            f"Upgrade: {upgrade}",
            "Connection: Upgrade, HTTP2-Settings",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        )
        for method in ("GET", "POST", "OPTIONS"):
            yield Attack(f"{method} upgrade {upgrade!r}", build(host, token, *lines, method=method, body=smuggled))
        with_body = build(host, token, *lines, "Content-Length: 5", body="hello" + smuggled)
        yield Attack(f"upgrade {upgrade!r} with a body", with_body)

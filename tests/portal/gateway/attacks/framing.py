"""Attacks with lengths, codings and upgrades: requests that could hide others."""

from __future__ import annotations

from collections.abc import Iterator

from tests.portal.gateway.attacks.request import FORGED, Attack, build


def list_framing(host: str, token: str) -> Iterator[Attack]:
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
        "length with a comma": ("Content-Length: 5,",),
        "length with a dot": ("Content-Length: 5.0",),
        "length with an exponent": ("Content-Length: 5e0",),
        "length with a semicolon": ("Content-Length: 5;",),
        "length with a vertical tab": ("Content-Length: 5\x0b",),
        "length with NUL": ("Content-Length: 5\x00",),
        "quoted length": ('Content-Length: "5"',),
        "folded length": ("Content-Length: 5\r\n 5",),
        "Arabic length": ("Content-Length: \xd9\xa5",),
        "length beyond 64 bits": ("Content-Length: 18446744073709551621",),
        "length beyond 32 bits": ("Content-Length: 4294967301",),
        "leading zeros": ("Content-Length: 00000000000000000005",),
        "negative zero": ("Content-Length: -0",),
        "length with an underscore name": ("Content_Length: 5", "Content-Length: 0"),
        "length name with NUL": ("Content-Length\x00: 5", "Content-Length: 0"),
        "length name with a tab": ("Content-Length\t: 5", "Content-Length: 0"),
        "length after a line feed": ("X: y\nContent-Length: 5", "Content-Length: 0"),
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
        "comma after": ("Transfer-Encoding: chunked ,",),
        "chunked, chunked": ("Transfer-Encoding: chunked, chunked",),
        "chunked, gzip": ("Transfer-Encoding: chunked, gzip",),
        "chunked with a parameter": ("Transfer-Encoding: chunked;q=1",),
        "chunked between tabs": ("Transfer-Encoding: \tchunked\t",),
        "chunked with a form feed": ("Transfer-Encoding: chunked\x0c",),
        "chunked with a hard space": ("Transfer-Encoding: chunked\xa0",),
        "chunked with the sign for kelvin": ("Transfer-Encoding: chun\xe2\x84\xaaed", "Content-Length: 5"),
        "capital chunked": ("Transfer-Encoding: Chunked",),
        "deflate": ("Transfer-Encoding: deflate",),
        "coding after a line feed": ("X: y\nTransfer-Encoding: chunked", "Content-Length: 5"),
        "coding after a carriage return": ("X: y\rTransfer-Encoding: chunked", "Content-Length: 5"),
        "coding name with NUL": ("Transfer-Encoding\x00: chunked", "Content-Length: 5"),
        "coding name with a dot": ("Transfer.Encoding: chunked", "Content-Length: 5"),
        "coding with a space first": (" Transfer-Encoding: chunked", "Content-Length: 5"),
        "expectation": ("Expect: 100-continue", "Content-Length: 5"),
        "two expectations": ("Expect: 100-continue", "Expect: 100-continue", "Content-Length: 5"),
        "expectation and chunks": ("Expect: 100-continue", "Transfer-Encoding: chunked"),
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
        "chunk size with zeros": "0000000000000000005\r\nhello\r\n0\r\n\r\n" + smuggled,
        "chunk size with a space": "5 \r\nhello\r\n0\r\n\r\n" + smuggled,
        "chunk size after a space": " 5\r\nhello\r\n0\r\n\r\n" + smuggled,
        "chunk size with a tab": "5\t\r\nhello\r\n0\r\n\r\n" + smuggled,
        "chunk size with a plus": "+5\r\nhello\r\n0\r\n\r\n" + smuggled,
        "chunk size with an underscore": f"1_0\r\n{'a' * 16}\r\n0\r\n\r\n" + smuggled,
        "largest chunk size": "7fffffffffffffff\r\n" + smuggled,
        "empty chunk size": "\r\nhello\r\n0\r\n\r\n" + smuggled,
        "quoted chunk extension": '5;a="\r\nx"\r\nhello\r\n0\r\n\r\n' + smuggled,
        "chunk extension that ends with a line feed": "5;a\nhello\r\n0\r\n\r\n" + smuggled,
        "long chunk extension": f"5;{'a' * 9000}\r\nhello\r\n0\r\n\r\n" + smuggled,
        "extension of the last chunk": "0;a=b\r\n\r\n" + smuggled,
        "two carriage returns": "5\r\r\nhello\r\n0\r\n\r\n" + smuggled,
        "carriage returns only": "5\rhello\r0\r\r" + smuggled,
        "long chunk": "5\r\nhellohello\r\n0\r\n\r\n" + smuggled,
        "line feed after a chunk": "5\r\nhello\n0\r\n\r\n" + smuggled,
        "line feed after the last chunk": "0\n\r\n" + smuggled,
        "many zeros": "000\r\n\r\n" + smuggled,
        "two last chunks": "0\r\n\r\n0\r\n\r\n" + smuggled,
        "folded trailer": "0\r\nX: a\r\n b\r\n\r\n" + smuggled,
        "trailer without a colon": "0\r\nX\r\n\r\n" + smuggled,
        "trailer that changes the length": "0\r\nContent-Length: 5\r\nHost: a\r\n\r\n" + smuggled,
        "trailer with a cookie": "0\r\nCookie: flotilla-session=portal-secret\r\n\r\n" + smuggled,
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
    for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        lines = ("Content-Length: 5", "Connection: keep-alive")
        yield Attack(f"body of {method}", build(host, token, *lines, method=method, body="hello" + smuggled), 200)
    pipelined = build(host, token, "Content-Length: 5", "Connection: keep-alive", method="POST", body="hello")
    yield Attack("pipelined", pipelined + build(host, token, target="/internal"), 200)
    yield Attack("HTTP/1.0 with keep-alive", build(host, token, "Connection: keep-alive", version="HTTP/1.0"), 200)


def list_upgrades(host: str, token: str) -> Iterator[Attack]:
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
    handshake = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    for upgrade, connection in (
        ("websocket", "close, Upgrade"), ("websocket", "upgrade, x-platform-user-id"), ("websocket", "keep-alive"),
        ("websoc\xe2\x84\xaaet", "Upgrade"), ("websocket;q=1", "Upgrade"), ("websocket/13", "Upgrade"),
        ("HTTP/2.0", "Upgrade"), ("IRC/6.9, RTA/x11", "Upgrade"), ("connect-udp", "Upgrade"), ("h2c", "Upgrade"),
    ):  # fmt: skip
        wanted = (f"Upgrade: {upgrade}", f"Connection: {connection}", *handshake, f"X-Platform-User-Id: {FORGED}")
        yield Attack(f"handshake {upgrade!r} {connection!r}", build(host, token, *wanted, body=smuggled), 200)
        internal = build(host, token, *wanted, body=smuggled, target="/internal/ws")
        yield Attack(f"handshake {upgrade!r} {connection!r} with internal", internal, 404)
    both = ("Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade", *handshake)
    yield Attack("two upgrades", build(host, token, *both, body=smuggled), 200)
    keys = ("Upgrade: websocket", "Connection: Upgrade", *handshake, "Sec-WebSocket-Key: b")
    yield Attack("two keys", build(host, token, *keys, body=smuggled), 400)

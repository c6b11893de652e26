"""Attacks with headers: forged identity, headers that nominate others, cookies of portal and gateway."""

from __future__ import annotations

from collections.abc import Iterator

from tests.portal.gateway.attacks.request import FORGED, Attack, build


def list_identity(host: str, token: str) -> Iterator[Attack]:
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
    yield from _similar_names(host, token)
    yield from _separators(host, token)
    yield from _nominated(host, token)
    yield from _cookies(host, token)


def _similar_names(host: str, token: str) -> Iterator[Attack]:
    identity = """
    x.platform.user.id x~platform~user~id HTTP_X_PLATFORM_USER_ID HTTP-X-Platform-User-Id x--platform-user-id
    x-platform-user-id- -x-platform-user-id x_-platform-user-id x-platform-user-id* x-platform-user-id.
    x-platform-user--id x-platform-userid x-platform-user x-platform-user-role x-platform-user-org
    X-Platform-Assertion X_Platform_Assertion x-platform-assertion- x.platform.assertion
    """
    others = """
    Authorization Proxy-Authorization X-Authorization X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto
    X_Forwarded_For X-Forwarded-Prefix X-Forwarded-Port X-Forwarded-Server X-Forwarded-Scheme X-Forwarded-Uri
    X-Forwarded-Path X-Forwarded-User X-Forwarded-Client-Cert Forwarded X-Real-IP X-Client-IP True-Client-IP
    CF-Connecting-IP X-Cluster-Client-IP X-Originating-IP X-Remote-User Remote-User X-User X-Email
    X-Auth-Request-Email X-SSL-Client-Verify X-Original-URL X-Rewrite-URL X-Override-URL X-Original-Host X-Host
    X-HTTP-Host-Override X-HTTP-Method-Override X-Method-Override X-HTTP-Method X-Url-Scheme Front-End-Https
    X-Script-Name Script-Name SCRIPT_NAME X-Middleware-Subrequest X-Matched-Path X-Invoke-Path X-Now-Route-Matches
    X-Accel-Redirect X-Accel-Mapping X-Sendfile-Type Destination Proxy HTTP_PROXY Via Max-Forwards Keep-Alive
    Proxy-Connection Trailer TE Cookie2 CDN-Loop Alt-Used Early-Data
    """
    for name in (identity + others).split():
        yield Attack(f"header {name}", build(host, token, f"{name}: {FORGED}"), 200)
    for letter in ("\ufeff", "\u2011", "\u00ad", "\u200b"):
        name = f"x{letter}-platform-user-id".encode().decode("latin-1")
        yield Attack(f"header {name!r}", build(host, token, f"{name}: {FORGED}"), 400)
    yield Attack("90 times", build(host, token, *[f"x-platform-user-id: {FORGED}"] * 90), 200)


def _separators(host: str, token: str) -> Iterator[Attack]:
    for separator in ("\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9", "\x0c", "\x1c", "\x1e", "\r", " \r"):
        line = f"Accept: a{separator}x-platform-user-id: {FORGED}"
        yield Attack(f"separator {separator!r}", build(host, token, line), 400)
    for line in (" ", "\t\t", "Accept: a\r\n ", ":path: /internal", ": /internal", "a b: c", "(a): c", "{}: x",
                 f'"x-platform-user-id": {FORGED}', "GET /internal HTTP/1.1"):  # fmt: skip
        yield Attack(f"line {line!r}", build(host, token, line), 400)


def _nominated(host: str, token: str) -> Iterator[Attack]:
    hidden = "GET /internal HTTP/1.1\r\nHost: a\r\n\r\n"
    lines = (f"Content-Length: {len(hidden)}", "Content-Type: a/b")
    for name in ("x-platform-assertion", "cookie", "host", "content-length", "transfer-encoding", "sec-fetch-site",
                 "x-forwarded-for", "Content-Type", "connection", ",,,", "*"):  # fmt: skip
        request = build(host, token, f"Connection: close, {name}", *lines, method="POST", body=hidden)
        yield Attack(f"nominated {name} and a body", request, 200)
    for name in ("Accept-Language", "accept-language", "ACCEPT-LANGUAGE"):
        request = build(host, token, f"Connection: close, {name}", f"Accept-Language: {FORGED}")
        yield Attack(f"nominated {name}", request, 200)
    two = ("Connection: x-platform-user-id", "Connection: close", f"x-platform-user-id: {FORGED}")
    yield Attack("nominated by the first of two", build(host, token, *two), 200)


def _cookies(host: str, token: str) -> Iterator[Attack]:
    secret = "flotilla-session=portal-secret"
    for line in (
        f"COOKIE: {secret}", f"Cookie:{secret}", f"Cookie: __Host-{secret}", f"Cookie: __hOST-{secret}",
        f"Cookie: {secret.upper().replace('PORTAL-SECRET', 'portal-secret')}", f"Cookie: __Secure-{secret}",
        f"Cookie: __Http-{secret}", f"Cookie: __Host-Http-{secret}", f"Cookie: __Secure-__Host-{secret}",
        "Cookie: flotilla-session =portal-secret", "Cookie: flotilla-session\t=portal-secret",
        "Cookie: flotilla-gateway-state=portal-secret", "Cookie: \tflotilla-device=portal-secret",
        f"Cookie: a=1;{secret}", f"Cookie: ;;{secret}", f"Cookie: a;{secret};b", f"Cookie: a=1;\t{secret}",
        f'Cookie: a="; {secret}', f"Cookie: \x85{secret}", f"Cookie: \xa0{secret}",
        'Cookie: "flotilla-session"=portal-secret', f"Cookie: $Version=1; {secret}; $Path=/",
        "Cookie: " + "a=1; " * 1500 + secret,
    ):  # fmt: skip
        yield Attack(f"cookies {line[:60]!r}", build(host, token, line), 200)
    yield Attack("90 times cookies", build(host, token, *["Cookie: a=1"] * 90), 200)

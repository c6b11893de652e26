"""Attacks with paths: spellings of `/internal`, and targets that are no paths."""

from __future__ import annotations

from collections.abc import Iterator

from tests.portal.gateway.attacks.request import Attack, build


def list_internal(host: str, token: str) -> Iterator[Attack]:
    closed = """
    /internal /internal/ /internal/members/add /internal?x //internal ///internal/x /INTERNAL /Internal/Members
    /%69nternal /%49nternal /interna%6c /%69%6E%74%65%72%6E%61%6C /%2569nternal /%252569nternal /internal;a=b
    /internal;/x /;/internal /;a/internal /internal%20 /internal. /internal%3f /internal%23 /%EF%BD%89nternal
    /%C4%B1nternal /intern%C3%A1l /int%C2%ADernal /%E2%80%8Binternal //bot/internal ///bot/internal //bot//internal
    //u:p@bot/internal /internal.. /internal.%20. /internal%2e /internal%252e /internal%3bx/members /internal%E2%80%8B
    /%2569%256e%2574%2565%2572%256e%2561%256c /%25%36%39nternal /%c2%a0internal /%c4%b0nternal /i%cc%87nternal
    /%e2%80%aeinternal /%e2%93%98nternal /%E1%B5%A2nternal /%ef%bb%bfinternal /internal?/../a /internal//
    """.split()  # noqa: SIM905
    malformed = """
    /a/../internal /../internal /./internal /a/./../internal /%2e%2e/internal /a/%2e%2e/internal /a/%2E./internal
    /%2e/internal /..;/internal /a/..;x/internal /a/..%3b/internal /%252e%252e/internal /a/%25252e%25252e/internal
    /%2finternal /%2Finternal /%252finternal /a%2f..%2finternal /%5cinternal /%5Cinternal /\\internal /a\\..\\internal
    /..\\internal /%255cinternal /%c0%afinternal /%c0%ae%c0%ae/internal /%e0%80%afinternal /%f0%80%80%afinternal
    /%c1%9cinternal /%00internal /internal%00 /internal%00.html /%2500internal /internal%0a /internal%0d%0aX:%20y
    /%0d%0ainternal /internal%09 /%ff/internal /internal%ff /%EF%BC%8Finternal /%E2%80%A5/internal /%u0069nternal
    /%zzinternal /%internal /internal% /internal%2 /#/internal /internal#x /%2525252525252569nternal
    /internal/.. /internal/../a /a/..%2finternal /a/%2e%2e%2finternal /internal%5cx /internal%2fmembers
    /internal%252fmembers /internal%3f/../a /internal#/../a /%2e%2e;/internal /a%3b/../internal /..%00/internal
    /%2F%2finternal /;%2finternal /;a%2f../internal /%2e//internal /%2%369nternal /%%369nternal /%ed%a0%80internal
    /%f8%80%80%80%afinternal /%E2%80%A4%E2%80%A4/internal /%F0%9F%98%80/../internal /internal%c2%85 //\\internal
    http://bot/internal https://bot/internal http:///internal HTTP://bot/internal ws://bot/internal file:///internal
    bot:80 :80/internal @bot/internal internal ?internal *
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
    for line in (
        "GET\t/internal HTTP/1.1", "GET /a HTTP/1.1 HTTP/1.1", "GET / /internal HTTP/1.1", " GET /internal HTTP/1.1",
        "GET /internal HTTP/1.1\r\n Host: x", "GET /internal\rHTTP/1.1", "GET /internal\x0bHTTP/1.1",
        "GET /internal\xa0HTTP/1.1", "GET\x00/internal HTTP/1.1", "\x00GET /internal HTTP/1.1",
        "GET /internal HTTP/1.1\x00", "GET /internal http/1.1", "OPTIONS * HTTP/1.1", "GET /\xad/internal HTTP/1.1",
    ):  # fmt: skip
        request = build(host, token).replace(b"GET / HTTP/1.1", line.encode("latin-1"), 1)
        yield Attack(f"first line {line!r}", request, 400)
    yield Attack("query with internal", build(host, token, target="/?/../internal"), 200)

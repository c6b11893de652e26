"""Attacks with the first line, the host, and malformed or huge headers."""

from __future__ import annotations

from collections.abc import Iterator

from tests.portal.gateway.attacks.request import Attack, build


def list_hosts(host: str, token: str) -> Iterator[Attack]:
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
        "host with a fragment": (f"{host}#",),
        "host with a query": (f"{host}?",),
        "host with a backslash": (f"{host}\\",),
        "host with two ports": (f"{host}:80",),
        "host without a port number": (host.partition(":")[0] + ":",),
        "host with a scheme": (f"http://{host}",),
        "host with two slashes": (f"//{host}",),
        "encoded host": (host.replace("-", "%2d"),),
        "folded host": (f"\r\n {host}",),
        "continued host": (f"{host}\r\n x",),
        "host with a soft hyphen": (host.replace("-", "-\xad"),),
        "host in full width": (host.replace("p", "\xef\xbd\x90"),),
    }.items():
        yield Attack(name, build(host, token, hosts=hosts), 400)
    for name, hosts in {
        "another bot": (other,),
        "the host of another installation": ("paperclip-1.evil.example",),
        "a deeper host": (f"x.{host}",),
        "the domain": (host.removeprefix("paperclip-1."),),
        "an inner address": ("169.254.169.254",),
        "another port": (host.rpartition(":")[0] + ":1",),
        "no port": (host.rpartition(":")[0],),
        "port with a zero": (host.replace(":", ":0"),),
        "dot at the end": (host.replace(":", ".:"),),
        "dot at the start": (f".{host}",),
        "dots at the start": (f"..{host}",),
        "hyphen at the start": (f"-{host}",),
        "underscore": (host.replace("-", "_"),),
        "punycode": (f"xn--{host}",),
        "IPv6": ("[::1]",),
        "hexadecimal address": ("0x7f.1",),
        "long host": ("a" * 300 + host,),
        "upper case": (host.upper(),),
    }.items():
        yield Attack(name, build(host, token, hosts=hosts))
    for line in (f"host: {other}", f"HOST: {other}", f"Host : {other}", f" Host: {other}", f"Host\t: {other}"):
        yield Attack(f"second host {line!r}", build(host, token, line), 400)
    yield Attack("HTTP_HOST", build(host, token, f"HTTP_HOST: {other}"), 200)


def list_malformed(host: str, token: str) -> Iterator[Attack]:
    for method in ("CONNECT", "TRACE", "TRACK", "PROPFIND", "get", "G ET", "", "DEBUG", "PRI", "M-SEARCH", "G\x00T"):
        yield Attack(f"method {method!r}", build(host, token, method=method))
    yield Attack("connect", build(host, token, method="CONNECT", target="127.0.0.1:22"))
    yield Attack("long target", build(host, token, target="/" + "a" * 9000))
    yield Attack("long query", build(host, token, target="/?" + "a" * 7900), 200)
    yield Attack("long method", build(host, token, method="G" * 9000))
    yield Attack("long name", build(host, token, f"{'x' * 9000}: 1"))
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

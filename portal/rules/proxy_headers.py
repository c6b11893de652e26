"""Headers between browsers and bots: what passes in each direction, and the identity that the gateway adds.

Used by the gateway. Request headers pass by an allowlist, because servers treat `X_Name` and `X-Name` alike and
because the identity must not be forged. Response headers pass unless they would harm other hosts or the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlsplit

Headers = list[tuple[str, str]]

OWN_COOKIE_MARK = "flotilla-"
"""Names of all cookies of portal and gateway contain this, behind prefixes such as `__Host-`."""

_MAX_IDENTITY_BYTES = 256
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""Includes all characters that end a line for some programs, such as U+0085 and U+2028 for `str.splitlines`."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PREFIX = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_UNENCODED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

_ALLOWED_WORDS = """
accept accept-charset accept-encoding accept-language access-control-request-headers
access-control-request-method cache-control content-disposition content-encoding content-language content-range
content-type dnt if-match if-modified-since if-none-match if-range if-unmodified-since last-event-id
origin pragma prefer priority purpose range referer rsc save-data sec-gpc sec-purpose sec-websocket-extensions
sec-websocket-key sec-websocket-protocol sec-websocket-version upgrade-insecure-requests user-agent want-digest
x-csrf-token x-csrftoken x-inertia x-requested-with x-xsrf-token
"""
_ALLOWED = frozenset(_ALLOWED_WORDS.split())
_ALLOWED_PREFIXES = ("sec-ch-", "sec-fetch-", "hx-", "next-", "trpc-", "turbo-", "tus-", "upload-", "x-inertia-")
"""Headers of common frontend libraries and of resumable uploads."""
_LISTS_WORDS = """
accept accept-charset accept-encoding accept-language cache-control if-match if-none-match prefer
sec-websocket-extensions sec-websocket-protocol
"""
_LISTS = frozenset(_LISTS_WORDS.split())
"""Headers that may occur several times, because their values are lists."""

_HOP_BY_HOP_WORDS = """
connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization proxy-connection te
trailer transfer-encoding upgrade
"""
_HOP_BY_HOP = frozenset(_HOP_BY_HOP_WORDS.split())
_DROPPED_FROM_RESPONSES_WORDS = """
alt-svc clear-site-data content-length expect-ct public-key-pins public-key-pins-report-only
service-worker-allowed set-cookie2 strict-transport-security x-sendfile
"""
_DROPPED_FROM_RESPONSES = _HOP_BY_HOP | frozenset(_DROPPED_FROM_RESPONSES_WORDS.split())
_DROPPED_PREFIXES = ("x-accel-", "x-lighttpd-")
"""Instructions to a proxy in front of the gateway, which could send files of its machine."""


class MalformedRequest(Exception):
    """The headers of a request are ambiguous; servers would interpret them differently."""


def select_request_headers(raw: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers of a request that pass to the bot, without cookies, host, framing and identity.

    Args:
        raw: names and values as they were received, in their order.

    Raises:
        MalformedRequest: a header that must be unique occurs several times.
    """
    received = [(name.lower(), value) for name, value in raw]
    nominated = list_nominated(received)
    selected: dict[str, str] = {}
    for name, value in received:
        if name in nominated or (name not in _ALLOWED and not _has_allowed_prefix(name)):
            continue
        if name in selected and name not in _LISTS:
            raise MalformedRequest(f"several headers {name}")
        selected[name] = f"{selected[name]}, {value}" if name in selected else value
    return list(selected.items())


def are_well_formed(headers: Sequence[tuple[str, str]]) -> bool:
    """Return whether all names are tokens, and their values have no control characters except tabs."""
    names, values = [name for name, _ in headers], [value for _, value in headers]
    # Joined, because one long search is much faster than many short ones.
    are_tokens = all(names) and (not names or _TOKEN.fullmatch("".join(names)) is not None)
    return are_tokens and not _CONTROL_CHARACTER.search("".join(values))


def list_nominated(headers: Iterable[tuple[str, str]]) -> set[str]:
    """Return the names that `Connection` nominates, which are meant for this connection only, in lower case."""
    values = [value for name, value in headers if name.lower() == "connection"]
    return {token.strip().lower() for token in ",".join(values).split(",")} if values else set()


def filter_cookies(values: Iterable[str]) -> str | None:
    """Return the cookies of a request without those of portal and gateway; None if none is left.

    Args:
        values: the values of all `Cookie` headers.
    """
    pairs = [pair.strip() for pair in ";".join(values).split(";")]
    kept = [pair for pair in pairs if pair and not _is_own_cookie(pair.partition("=")[0])]
    return "; ".join(kept) or None


def find_cookie(values: Iterable[str], name: str) -> str | None:
    """Return the value of the first cookie with this name."""
    for pair in ";".join(values).split(";"):
        found, _, value = pair.strip().partition("=")
        if found == name:
            return value
    return None


def build_identity(prefix: str, *, user_id: str, email: str, name: str) -> Headers:
    """Return the headers with the identity of the caller.

    Args:
        prefix: the bot's setting, such as `x-platform-user`.
        user_id: the id of the user.
        email: the email of the user.
        name: the display name of the user.

    Raises:
        ValueError: the prefix is not a lower-case header name.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} cannot begin the name of a header")
    fields = {"id": user_id, "email": email, "name": name}
    return [(f"{prefix}-{field}", encode_value(text)) for field, text in fields.items()]


def encode_value(text: str) -> str:
    """Encode text for a header: percent-encoded UTF-8 except for printable ASCII, at most 256 bytes.

    The text is cut between characters, so that it can always be decoded.
    """
    if len(text) <= _MAX_IDENTITY_BYTES and text.isascii() and text.isprintable() and "%" not in text:
        return text.strip()
    encoded = ""
    for character in text.strip():
        part = quote(character, safe=_UNENCODED, errors="replace")
        if len(encoded) + len(part) > _MAX_IDENTITY_BYTES:
            break
        encoded += part
    return encoded.strip()


def add_identity(headers: Headers, identity: Headers) -> Headers:
    """Return the headers followed by the identity. Headers that could be mistaken for the identity are dropped."""
    reserved = {name for name, _ in identity}
    return [(name, value) for name, value in headers if name.replace("_", "-") not in reserved] + identity


def select_response_headers(raw: Sequence[tuple[str, str]], *, inner: str, outer: str) -> Headers:
    """Return the headers of a bot's response that pass to the browser, without framing.

    Args:
        raw: names and values as they were received.
        inner: `host:port` of the bot.
        outer: URL of the bot for browsers, without a slash at the end.
    """
    nominated = list_nominated(raw)
    if not are_well_formed(raw):
        raw = [header for header in raw if are_well_formed([header])]
    selected = []
    for name, value in raw:
        lower = name.lower()
        is_dropped = lower in _DROPPED_FROM_RESPONSES or lower in nominated or lower.startswith(_DROPPED_PREFIXES)
        if is_dropped or (lower == "set-cookie" and not _may_set_cookie(value)):
            continue
        is_address = lower in {"location", "content-location"}
        selected.append((name, _to_outer(value, inner, outer) if is_address else value))
    return selected


def _has_allowed_prefix(name: str) -> bool:
    return name.startswith(_ALLOWED_PREFIXES) and _PREFIX.fullmatch(name) is not None


def _is_own_cookie(name: str) -> bool:
    return OWN_COOKIE_MARK in name.lower()


def _may_set_cookie(value: str) -> bool:
    """Return whether a bot may set this cookie: for its own host only, with a name, and with none of our names."""
    pair, *attributes = value.split(";")
    name, separator, _ = pair.partition("=")
    # Browsers send a cookie without a name as its value alone, which could then be read as another cookie.
    if not separator or not name.strip() or _is_own_cookie(name):
        return False
    return all(attribute.partition("=")[0].strip().lower() != "domain" for attribute in attributes)


def _to_outer(location: str, inner: str, outer: str) -> str:
    """Replace the bot's own address at the start of a URL, which browsers cannot reach."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return location
    if not parts.netloc or parts.scheme not in {"", "http", "https"} or parts.netloc.lower() != inner.lower():
        return location
    return outer + location.partition("//")[2][len(parts.netloc) :]

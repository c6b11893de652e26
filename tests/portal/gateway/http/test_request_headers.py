"""Headers of requests, which are kept: equal ones share what was found out, and others never do."""

from __future__ import annotations

import pytest

from portal.gateway.http.request_headers import read_headers
from portal.rules.proxy_headers import MalformedRequest

PARTS = [
    b"Host",
    b"acme.example",
    b"Cookie",
    b"theme=dark; flotilla-gateway=secret",
    b"Accept",
    b"a",
    b"accept",
    b"b",
]


def test_headers_have_the_values_of_all_fields_of_a_name() -> None:
    headers = read_headers(PARTS)
    assert headers.values("accept") == ["a", "b"]
    assert headers.values("missing") == ()
    assert headers.for_bot == [("accept", "a, b"), ("Cookie", "theme=dark")]
    assert headers.size == sum(map(len, PARTS))


def test_equal_headers_are_interpreted_once() -> None:
    assert read_headers(list(PARTS)) is read_headers(list(PARTS))


def test_other_headers_share_nothing() -> None:
    seen = {id(read_headers(PARTS))}
    for index, part in enumerate(PARTS):
        for other in (part + b"x", part[:-1], part.swapcase()):
            if other != part:
                changed = read_headers([*PARTS[:index], other, *PARTS[index + 1 :]])
                assert changed.fields[index // 2][index % 2] == other.decode()
                assert id(changed) not in seen
                seen.add(id(changed))
    # Joined, these would be the same bytes.
    assert read_headers([b"ab", b"c"]).fields != read_headers([b"a", b"bc"]).fields


def test_large_headers_are_not_kept() -> None:
    large = [b"X", b"a" * 5000]
    assert read_headers(large) is not read_headers(large)


def test_ambiguous_headers_are_refused_each_time() -> None:
    for _ in range(2):
        headers = read_headers([b"Range", b"a", b"range", b"b"])
        with pytest.raises(MalformedRequest):
            _ = headers.for_bot
    for _ in range(2):
        assert not read_headers([b"X\x01", b"a"]).is_well_formed

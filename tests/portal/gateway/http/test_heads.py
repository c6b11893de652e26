"""The text form of heads: no part adds a line."""

from __future__ import annotations

import pytest

from portal.gateway.http.heads import build_request_head, build_response_head, decode_headers


def test_heads_have_one_line_for_each_header() -> None:
    headers = [("host", "a.example"), ("X-Name", "Zo\u00eb")]
    assert build_request_head("GET", "/a?b", headers) == (
        b"GET /a?b HTTP/1.1\r\nhost: a.example\r\nX-Name: Zo\xc3\xab\r\n\r\n"
    )
    assert build_response_head(404, []) == b"HTTP/1.1 404 Not Found\r\n\r\n"
    assert build_response_head(299, []) == b"HTTP/1.1 299 \r\n\r\n"


@pytest.mark.parametrize("part", ["a\r\nX: b", "a\nX: b", "a\rX: b", "\n", "\r\n"])
def test_a_line_break_in_a_part_is_refused(part: str) -> None:
    for name, value in ((part, "a"), ("a", part)):
        with pytest.raises(ValueError, match="line break"):
            build_response_head(200, [(name, value)])
    with pytest.raises(ValueError, match="line break"):
        build_request_head("GET", part, [])


def test_headers_are_decoded_without_spaces_at_the_end() -> None:
    parts = [b"Host", b"a", b"X-Empty", b"", b"X-Space", b"a b \t", b"X-Latin", b"\xe9", b"X-Utf", b"\xc3\xab "]
    assert decode_headers(parts) == [
        ("Host", "a"),
        ("X-Empty", ""),
        ("X-Space", "a b"),
        ("X-Latin", "\ufffd"),
        ("X-Utf", "\u00eb"),
    ]
    assert decode_headers([]) == []


@pytest.mark.parametrize("parts", [[b"a\nb", b"c"], [b"a", b"b\nc: d"], [b"a", b"\n"]])
def test_headers_with_a_line_break_are_not_decoded(parts: list[bytes]) -> None:
    with pytest.raises(ValueError, match="line break"):
        decode_headers(parts)

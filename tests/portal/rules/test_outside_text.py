"""Cleaning of text from outside: unsafe characters, directional overrides, line breaks, length."""

import pytest

from portal.rules.outside_text import clean_line, clean_text, escape_unsafe


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain text, Zoë, 日本語, 🙂\n\tindented", "plain text, Zoë, 日本語, 🙂\n\tindented"),
        ("a NUL \0, a bell \a, a C1 \x9b", "a NUL , a bell , a C1 "),
        ("half of a pair: \ud83d", "half of a pair: "),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("\u2066isolated\u2069", "isolated"),
        ("one\r\ntwo\rthree\u2028four\x85five", "one\ntwo\nthree\nfour\nfive"),
    ],
)
def test_unsafe_characters_are_removed(text: str, cleaned: str) -> None:
    assert clean_text(text, 100) == cleaned


def test_long_text_is_cut() -> None:
    assert clean_text("x" * 100, 10) == "x" * 9 + "…"
    assert clean_text("x" * 10, 10) == "x" * 10


def test_line_has_no_line_breaks() -> None:
    assert clean_line(" one\n\ttwo\r\0three ", 100) == "one two three"


def test_other_values_become_text() -> None:
    assert clean_text([1, None], 100) == "[1, None]"


def test_escaped_text_is_one_visible_line() -> None:
    assert escape_unsafe("a\r\nb\x1b[2J\u202e\ud83d é") == r"a\r\nb\x1b[2J\u202e\ud83d é"

"""Splitting pasted texts into emails."""

from __future__ import annotations

import pytest

from portal.rules.email_lists import split_addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@x.example b@x.example,c@x.example;d@x.example\r\ne@x.example\tf@x.example", "a b c d e f"),
        ('Ann Lee <a@x.example>, "Bo, Lee" <b@x.example>; (c@x.example)', "a - b c"),
        ("mailto:a@x.example\nPlease add b@x.example.", "a b"),
        ("a@x.example, A@X.example, a@x.example", "a"),
        (" ,;\n\t ", ""),
    ],
)
def test_emails_are_found_between_any_separators(text: str, expected: str) -> None:
    found = [address.removesuffix("@x.example") for address in split_addresses(text)]
    assert [name if len(name) == 1 else "-" for name in found] == expected.split()


def test_part_without_an_email_is_kept_so_that_it_is_reported() -> None:
    assert split_addresses("ann.example.com\nb@x.example") == ["ann.example.com", "b@x.example"]

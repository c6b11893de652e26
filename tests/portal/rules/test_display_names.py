"""Tests of the rules for names of people and organizations."""

import pytest

from portal.rules import display_names


@pytest.mark.parametrize("typed", ["Nora", "  Nora ", "Zoë", "Zoe\u0308", "李", "O'Neil & Co", "\u3164x", 100 * "n"])
def test_visible_names_are_accepted(typed: str) -> None:
    normalized = display_names.normalize(typed)
    assert display_names.find_problem(normalized) is None
    assert normalized == display_names.normalize(normalized)


@pytest.mark.parametrize("typed", ["", "  ", "\u3164", "\u2800 \u2800", "two\nlines", "\u200b", 101 * "n"])
def test_empty_invisible_multiline_and_long_names_are_refused(typed: str) -> None:
    assert display_names.find_problem(display_names.normalize(typed)) is not None


@pytest.mark.parametrize("typed", ["Your Provider", " deleted user", "SOMEBODY"])
def test_reserved_names_are_refused(typed: str) -> None:
    assert "reserved" in (display_names.find_problem(display_names.normalize(typed)) or "")


def test_equivalent_unicode_spellings_are_equal() -> None:
    assert display_names.normalize("Zoe\u0308") == display_names.normalize("Zoë")

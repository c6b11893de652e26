"""Names of people and organizations."""

import pytest

from portal.rules import display_names


@pytest.mark.parametrize("typed", ["Nora", "  Nora ", "Zoë", "Zoe\u0308", "李", "O'Neil & Co", "\u3164x", 100 * "n"])
def test_a_name_can_be_seen(typed: str) -> None:
    cleaned = display_names.clean(typed)
    assert display_names.find_problem(cleaned) is None
    assert cleaned == display_names.clean(cleaned)


@pytest.mark.parametrize("typed", ["", "  ", "\u3164", "\u2800 \u2800", "two\nlines", "\u200b", 101 * "n"])
def test_what_cannot_be_seen_on_one_line_is_none(typed: str) -> None:
    assert display_names.find_problem(display_names.clean(typed)) is not None


@pytest.mark.parametrize("typed", ["Your Provider", " deleted user", "SOMEBODY"])
def test_nobody_is_called_what_logs_call_others(typed: str) -> None:
    assert "another name" in (display_names.find_problem(display_names.clean(typed)) or "")


def test_the_same_name_is_spelled_the_same() -> None:
    assert display_names.clean("Zoe\u0308") == display_names.clean("Zoë")

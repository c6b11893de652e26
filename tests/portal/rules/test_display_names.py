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


@pytest.mark.parametrize(
    "typed",
    [
        "Your Provider",
        " deleted user",
        "SOMEBODY",
        "Flotilla",
        "Your-Provider.",
        "YourProvider",
        "Y0ur Prov1der",
        "Your Provlder",
        "Your Provider (support)",
        "Yo\u0301ur Pro\u0308vider",
        "\N{CYRILLIC CAPITAL LETTER U}\N{CYRILLIC SMALL LETTER O}ur Provider",
        "Y\N{GREEK SMALL LETTER OMICRON}ur Provider",
        "\N{LATIN LETTER SMALL CAPITAL Y}our \N{LATIN LETTER SMALL CAPITAL P}rovider",
        "\N{FULLWIDTH LATIN CAPITAL LETTER Y}our Provider",
        "F\N{LATIN CAPITAL LETTER I}otilla",
    ],
)
def test_names_that_imitate_the_provider_are_refused(typed: str) -> None:
    assert "reserved" in (display_names.find_problem(display_names.normalize(typed)) or "")


@pytest.mark.parametrize(
    "typed",
    [
        "\N{CYRILLIC CAPITAL LETTER A}lice",
        "Alice \N{CYRILLIC CAPITAL LETTER ES}\N{CYRILLIC SMALL LETTER O}",
        "Acme \N{GREEK CAPITAL LETTER ALPHA}",
        "\N{CYRILLIC CAPITAL LETTER A}\N{GREEK CAPITAL LETTER ALPHA}",
        "\N{HEBREW LETTER ALEF}\N{ARABIC LETTER ALEF}",
    ],
)
def test_names_that_mix_scripts_are_refused(typed: str) -> None:
    assert "one alphabet" in (display_names.find_problem(display_names.normalize(typed)) or "")


@pytest.mark.parametrize(
    "typed",
    [
        "Яндекс",
        "Ελλάς",
        "株式会社Acme",
        "カタカナ と ひらがな",
        "Acme \N{HEBREW LETTER ALEF}",
        "Łukasz Ørsted",
        "Provider Oy",
        "Flotilla Sailing",
        "Acme +1 (555) 010-0100",
        "Win $1,000,000 now",
        "€5 Burgers No. 1",
    ],
)
def test_one_script_and_names_with_phone_numbers_or_amounts_are_accepted(typed: str) -> None:
    assert display_names.find_problem(display_names.normalize(typed)) is None


@pytest.mark.parametrize(
    "name",
    ["Paper Clip", "paper-clip support", "the P4per C1ip", "PAPERCLIP", "P\N{CYRILLIC SMALL LETTER A}per Clip"],
)
def test_names_that_contain_the_product_imitate_it(name: str) -> None:
    assert display_names.imitates(name, "Paper Clip")


@pytest.mark.parametrize("name", ["Paper", "Clip Paper", "Papers Clips", "李"])
def test_other_names_do_not_imitate_the_product(name: str) -> None:
    assert not display_names.imitates(name, "Paper Clip")


def test_equivalent_unicode_spellings_are_equal() -> None:
    assert display_names.normalize("Zoe\u0308") == display_names.normalize("Zoë")

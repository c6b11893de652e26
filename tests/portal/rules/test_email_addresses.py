"""Email addresses."""

import pytest

from portal.rules.email_addresses import find_problem, normalize


@pytest.mark.parametrize(
    "address", ["a@b.example", "first.last+tag@mail.example.com", "x@xn--strae-oqa.example", "root@localhost"]
)
def test_mail_can_be_sent_to_these(address: str) -> None:
    assert find_problem(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nobody",
        "@example.com",
        "a@",
        "a@b@c.example",
        "a b@example.com",
        "a@example.com\nBcc: all@example.com",
        "a@example..com",
        "a@-example.com",
        "<a@example.com>",
        "a@" + "x" * 300,
        # Folded to lower case these would be somebody else's address.
        "stra\N{LATIN SMALL LETTER SHARP S}e@example.com",
        "\N{KELVIN SIGN}im@example.com",
    ],
)
def test_these_are_refused(address: str) -> None:
    assert "name@example.com" in str(find_problem(address))


def test_case_and_blanks_do_not_matter() -> None:
    assert normalize(" Olga@Example.COM ") == normalize("olga@example.com")

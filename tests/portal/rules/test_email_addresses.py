"""Tests of the rules for emails."""

import pytest

from portal.rules.email_addresses import find_mailbox, find_problem, normalize


@pytest.mark.parametrize(
    "address", ["a@b.example", "first.last+tag@mail.example.com", "x@xn--strae-oqa.example", "root@localhost"]
)
def test_valid_emails_are_accepted(address: str) -> None:
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
        # In lower case these would equal the email of another person.
        "stra\N{LATIN SMALL LETTER SHARP S}e@example.com",
        "\N{KELVIN SIGN}im@example.com",
    ],
)
def test_invalid_emails_are_refused(address: str) -> None:
    assert "name@example.com" in str(find_problem(address))


def test_case_and_surrounding_whitespace_are_ignored() -> None:
    assert normalize(" Olga@Example.COM ") == normalize("olga@example.com")


def test_tags_share_the_mailbox_of_their_name() -> None:
    addresses = ("Bob@X.com", "bob+news@x.com", "bob+a+b@x.com")
    assert {find_mailbox(address) for address in addresses} == {"bob@x.com"}
    assert find_mailbox("+bob@x.com") == "+bob@x.com"

"""Inviting several people at once: one result for each email, and the limits of single invites."""

from __future__ import annotations

import html
import re

import pytest
from flask.testing import FlaskClient

from portal.models import MembershipRole
from tests.portal.views.inviting import Inviting
from tests.support.cast import SignedIn

pytestmark = pytest.mark.requests

ADDRESS = "/o/acme/team/invite-several"


def send(client: FlaskClient, text: str, role: str = "member") -> tuple[int, str]:
    """Submit the form and return status and page."""
    answer = client.post(ADDRESS, data={"addresses": text, "role": role})
    return answer.status_code, html.unescape(answer.text)


def kept(page: str) -> list[str]:
    """Return the emails that the form keeps."""
    found = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
    assert found
    return found[1].split()


@pytest.mark.every_database
def test_each_email_gets_a_result_and_the_form_keeps_the_refused_ones(
    inviting: Inviting, signed_in: SignedIn
) -> None:
    inviting.post_form(signed_in("carol"), "old@example.com")
    text = "Ann <ann@example.com>; ANN@example.com\nbob@example.com, old@example.com wrong@@example.com\nunknown"
    status, page = send(signed_in("alice"), text, "admin")
    assert status == 200
    assert "2 of 5 invites sent" in page
    assert "sent again" in page
    assert "bob@example.com is already in Acme." in page
    assert kept(page) == ["bob@example.com", "wrong@@example.com", "unknown"]
    invited = {invite.email: (invite.role, invite.version) for invite in inviting.all_invites()}
    assert invited == {
        "ann@example.com": (MembershipRole.ADMIN, 1),
        "old@example.com": (MembershipRole.ADMIN, 2),
    }


def test_limits_hold_and_refuse_only_the_emails_beyond_them(inviting: Inviting, signed_in: SignedIn) -> None:
    alice = signed_in("alice")
    for _ in range(3):
        inviting.post_form(alice, "person1@example.com")
    status, page = send(alice, " ".join(f"person{number}@example.com" for number in range(25)))
    assert status == 200
    assert "16 of 25 invites sent" in page
    assert page.count("this person has been sent too many emails") == 1
    assert page.count("you have sent too many invites") == 8
    assert len(inviting.all_invites()) == 17
    assert send(alice, "late@example.com")[0] == 422


@pytest.mark.parametrize(
    ("text", "role", "message"),
    [
        ("", "member", "Enter at least one email."),
        (" ,; ", "member", "Enter at least one email."),
        ("a@x.example", "owner", "Choose one of the options."),
        (" ".join(f"p{number}@x.example" for number in range(51)), "member", "These are 51 emails."),
        ("unknown", "member", "Enter a valid email"),
    ],
)
def test_invalid_form_sends_no_invite(
    inviting: Inviting, signed_in: SignedIn, text: str, role: str, message: str
) -> None:
    status, page = send(signed_in("alice"), text, role)
    assert (status, message in page) == (422, True)
    assert inviting.all_invites() == []


@pytest.mark.parametrize(("person", "status"), [("carol", 200), ("bob", 403), ("mallory", 404), ("root", 403)])
def test_only_owners_and_admins_invite_several_people(
    inviting: Inviting, signed_in: SignedIn, person: str, status: int
) -> None:
    assert send(signed_in(person), "new@example.com")[0] == status
    assert len(inviting.all_invites()) == (status == 200)

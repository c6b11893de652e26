"""The way to a bot: who gets a ticket, and where the page leads."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import GatewayTicket, utcnow
from portal.services.gateway import entering
from tests.support.cast import SignedIn
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

STATE = "s" * 43


def find_target(text: str) -> str:
    """Return the address to which the page leads."""
    (found,) = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', text)
    return html.unescape(found)


@pytest.mark.parametrize("person", ["alice", "carol", "bob"])
def test_members_get_a_ticket_for_the_bot(signed_in: SignedIn, scene: Scene, database: Database, person: str) -> None:
    page = signed_in(person).get("/open/paperclip-1", query_string={"state": STATE, "path": "/notes?page=2&q=é%20"})
    assert page.status_code == 200
    target = urlsplit(find_target(page.text))
    assert (target.scheme, target.netloc, target.path) == ("http", "paperclip-1.bots.example", "/_gateway/enter")
    query = parse_qs(target.query)
    with database.transaction() as session:
        (ticket,) = query["ticket"]
        assert entering.redeem_ticket(session, ticket, "paperclip-1", STATE, utcnow()) is not None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/notes?page=2", "/notes?page=2"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_the_page_leads_to_a_path_of_the_bot_only(
    signed_in: SignedIn, scene: Scene, path: str, expected: str
) -> None:
    page = signed_in("bob").get("/open/paperclip-1", query_string={"state": STATE, "path": path})
    assert parse_qs(urlsplit(find_target(page.text)).query)["path"] == [expected]


def test_others_get_no_ticket(signed_in: SignedIn, stranger: FlaskClient, scene: Scene, database: Database) -> None:
    address = f"/open/paperclip-1?state={STATE}"
    assert signed_in("root").get(address).status_code == 403
    outsider, unknown = signed_in("mallory").get(address), signed_in("mallory").get(f"/open/nothing?state={STATE}")
    assert (outsider.status_code, unknown.status_code) == (404, 404)
    assert outsider.text.partition("<main")[2] == unknown.text.partition("<main")[2]
    with database.reading() as session:
        assert session.scalars(sa.select(GatewayTicket)).all() == []
    for path in ("paperclip-1", "nothing"):
        answer = stranger.get(f"/open/{path}?state={STATE}&path=%2Fnotes")
        assert answer.status_code == 303
        assert answer.location == f"/login?next=/open/{path}?state%3D{STATE}%26path%3D%252Fnotes"


def test_sign_in_leads_back_to_the_opening(signed_in: SignedIn, scene: Scene) -> None:
    target = f"/open/paperclip-1?state={STATE}&path=%2Fnotes%3Fpage%3D2"
    answer = signed_in("bob").get("/login", query_string={"next": target})
    assert answer.location == target


@pytest.mark.parametrize("state", ["", "short", "s" * 42 + '"', "s" * 44])
def test_without_the_gateways_state_the_browser_goes_to_the_gateway_first(
    signed_in: SignedIn, scene: Scene, database: Database, state: str
) -> None:
    answer = signed_in("bob").get("/open/paperclip-1", query_string={"state": state})
    assert (answer.status_code, answer.location) == (303, "http://paperclip-1.bots.example/")
    with database.reading() as session:
        assert session.scalars(sa.select(GatewayTicket)).all() == []


def test_pages_link_to_the_bot_for_people_who_may_open_it(signed_in: SignedIn, scene: Scene) -> None:
    link = 'href="http://paperclip-1.bots.example/"'
    for page in ("/o/acme/", f"/o/acme/bots/{scene.bots[0]}"):
        assert link in signed_in("bob").get(page).text
        assert link not in signed_in("root").get(page).text


@pytest.mark.parametrize("destination", ["image", "script", "empty", "iframe", "object"])
def test_files_and_frames_of_other_pages_get_no_ticket(
    signed_in: SignedIn, scene: Scene, database: Database, destination: str
) -> None:
    headers = {"Sec-Fetch-Dest": destination}
    assert signed_in("bob").get(f"/open/paperclip-1?state={STATE}", headers=headers).status_code == 403
    with database.reading() as session:
        assert session.scalars(sa.select(GatewayTicket)).all() == []
    headers = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}
    assert signed_in("bob").get(f"/open/paperclip-1?state={STATE}", headers=headers).status_code == 200

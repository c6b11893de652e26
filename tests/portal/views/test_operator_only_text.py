"""Text for operators never reaches customers, on any page, fragment, error or redirect. Operators read it.

A fleet with a unique text in every column for operators is crawled by all kinds of users.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import Membership, Rollout
from portal.web.cookie_names import session_cookie_name
from tests.portal.views.test_access_matrix import PEOPLE, list_requests, roll_back_requests
from tests.support import operator_text
from tests.support.cast import Cast, SignedIn
from tests.support.operator_text import SECRET, SHOWN_TO_OPERATORS, find_planted, list_tokens, token

pytestmark = [pytest.mark.slow, pytest.mark.requests]

ALLOWED_IMAGE = "allowed.example"
CUSTOMERS = [name for name in PEOPLE if name != "root"]
_LINKS = re.compile(r'(?:href|hx-get)="(/[^"]*)"')
_FILES = ("/static/", "/vendor/")


@dataclass
class Site:
    """The portal with planted texts: its routes with ids of existing rows, and the release that bots are offered."""

    app: Flask
    requests: set[tuple[str, str]]
    digest: str

    def crawl(self, client: FlaskClient) -> Iterator[tuple[str, TestResponse]]:
        """Send every request and follow all links and fragments of the pages. Nothing is changed.

        Yields:
            What was requested, and the response.
        """
        cookie = client.get_cookie(session_cookie_name(self.app.extensions["settings"]))
        waiting, known = set(self.requests), set(self.requests)
        while waiting:
            method, url = waiting.pop()
            if cookie:
                client.set_cookie(cookie.key, cookie.value)
            for headers in list_variants(method, url):
                data = {"digest": self.digest} if method == "POST" else None
                response = client.open(url, method=method, headers=headers, data=data)
                yield f"{method} {url}", response
                found = {("GET", link) for link in list_links(response)} - known
                known |= found
                waiting |= found


def list_variants(method: str, url: str) -> list[dict[str, str]]:
    """List the headers with which a browser requests an address: as htmx, without scripts, or both."""
    htmx = {"HX-Request": "true"}
    if method == "POST":
        return [{}, htmx]
    return [htmx] if "part=" in url else [{}]


def list_links(response: TestResponse) -> set[str]:
    """List the addresses to which a page links, without the version of its parts, which hides what is unchanged."""
    if response.mimetype != "text/html":
        return set()
    found = {re.sub("&?version=[^&]*", "", html.unescape(link)) for link in _LINKS.findall(response.text)}
    return {link for link in found if not link.startswith(_FILES)}


def read(response: TestResponse) -> str:
    """Return everything that a response tells, also in its headers."""
    text = response.text if response.mimetype in {"text/html", "text/plain", "application/json"} else ""
    return html.unescape(text) + str(response.headers)


@pytest.fixture
def site(app: Flask, database: Database, cast: Cast) -> Site:
    """The portal with planted texts, and an allowlist that does not admit the images of the fleet."""
    app.extensions["settings"] = replace(app.extensions["settings"], fleet_image_allowlist=(ALLOWED_IMAGE,))
    with database.transaction() as session:
        scene = operator_text.plant_fleet(session, cast)
        ids = {
            "slug": "acme",
            "release_id": scene.new,
            "rollout_id": session.query(Rollout.id).first()[0],  # type: ignore[index]  # there is one
            "membership_id": session.query(Membership.id).filter_by(user_id=cast.people["bob"]).scalar(),
            "user_id": cast.people["bob"],
            "org_id": cast.org_id,
            "node_id": scene.node,
        }
    roll_back_requests(app)
    requests = {
        (method, url)
        for bot_id in scene.bots
        for endpoint, method, url in list_requests(app, bot_id=bot_id, **ids)
        if endpoint not in {"static", "assets.vendor"}
    }
    return Site(app, requests, scene.new_digest)


def test_every_text_column_has_its_readers() -> None:
    groups = (SHOWN_TO_OPERATORS, operator_text.NOT_SHOWN_TO_CUSTOMERS, SECRET, operator_text.READABLE)
    listed = [(table, column) for group in groups for table, columns in group.items() for column in columns]
    assert sorted(listed) == sorted(operator_text.list_text_columns()), "add new columns to one of the tables"


@pytest.mark.parametrize("name", [*CUSTOMERS, "a visitor"])
def test_customers_read_no_text_for_operators(
    site: Site, signed_in: SignedIn, stranger: FlaskClient, name: str
) -> None:
    client = stranger if name == "a visitor" else signed_in(name)

    found, pages = {}, 0
    for request, response in site.crawl(client):
        pages += response.status_code == 200
        if planted := find_planted(read(response)):
            found[request] = sorted(planted)
        assert ALLOWED_IMAGE not in read(response), request

    assert found == {}
    assert pages >= {"a visitor": 5, "mallory": 10}.get(name, 30), "the crawl must reach the pages"


def test_operators_read_what_customers_do_not(site: Site, signed_in: SignedIn) -> None:
    read_by_operator = "\n".join(read(response) for _, response in site.crawl(signed_in("root")))

    shown = [*list_tokens(SHOWN_TO_OPERATORS), token("events", "error"), token("events", "reason"), ALLOWED_IMAGE]
    assert [text for text in shown if text not in read_by_operator] == []
    assert [text for text in list_tokens(SECRET) if text in read_by_operator] == []

"""Every route with hostile text in fields and parameters: it is refused or accepted, but the portal never fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import ImmutableMultiDict

from portal.database import Database
from portal.models import Membership, UpdateState
from portal.paths import ROOT
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import limiter
from tests.portal.views.test_access_matrix import list_requests, roll_back_requests
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, rollout

pytestmark = [pytest.mark.slow, pytest.mark.requests]

HOSTILE = {
    "nul": "a\0b",
    "lone surrogate": "a\ud800b",
    "directional override": "\u202ea@example.com",
    "giant number": "9" * 30,
    "number of another script": "\u0669" * 30,
    "negative number": "-9223372036854775809",
    "infinite number": "1e400",
    "long": "x" * 20_000,
}
SAME_ON_EVERY_DATABASE = ("directional override", "number of another script")
"""Texts that databases store like any other text; Python reads the numbers, and another text is as large a number."""
VALID = {
    "email": "new@example.com",
    "hour": "3",
    "mode": "auto",
    "name": "Zed",
    "password": "correct horse battery staple",
    "reason": "why not",
    "role": "member",
    "slug": "zed",
    "typed": "acme",
    "version": "1",
}
"""Values with which a form passes the validation of its other fields."""
NUMBERS = ("before", "hour", "max_parallel", "page", "percentage", "version")
_FIELD_PATTERNS = (
    r'name="([a-z_]+)"',
    r"^ {4}([a-z_]+) = \w+Field",
    r'request\.(?:args|form)\.get(?:list)?\("(\w+)"',
)


@cache
def list_fields() -> list[str]:
    """List the names of all fields and parameters, from templates, forms and views."""
    files = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "portal").rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    return sorted({name for pattern in _FIELD_PATTERNS for name in re.findall(pattern, text, re.MULTILINE)})


def encode(fields: dict[str, str]) -> str:
    """Encode the fields of a form or query, lone surrogates, too."""
    return "&".join(f"{name}={quote(text.encode('utf-8', 'surrogatepass'))}" for name, text in fields.items())


class ObservedFields(ImmutableMultiDict[str, str]):
    """The fields or parameters of a request. It records which of them are read by name."""

    read: ClassVar[set[str]] = set()

    def __contains__(self, name: object) -> bool:
        self.read.add(str(name))
        return super().__contains__(name)

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)

    def getlist(self, name: str, *arguments: Any) -> list[Any]:
        """Return all values of a field."""
        self.read.add(name)
        return super().getlist(name, *arguments)


@pytest.fixture
def requests(app: Flask, database: Database, cast: Cast, scene: Scene) -> list[tuple[str, str]]:
    """Method and address of every route, with ids of existing rows. No request changes the data of the next one."""
    app.testing = False  # errors are answered as in production
    app.request_class = type("ObservedRequest", (app.request_class,), {"parameter_storage_class": ObservedFields})
    roll_back_requests(app)
    with database.transaction() as session:
        ids = {
            "slug": "acme",
            "bot_id": scene.bots[0],
            "release_id": scene.new,
            "rollout_id": rollout(session, scene, [UpdateState.UPDATED]).id,
            "membership_id": session.query(Membership.id).filter_by(user_id=cast.people["bob"]).scalar(),
            "user_id": cast.people["bob"],
            "org_id": cast.org_id,
            "node_id": scene.node,
        }
    found = list_requests(app, **ids)
    return [(method, url) for endpoint, method, url in found if endpoint not in {"static", "assets.vendor"}]


@pytest.mark.every_database
@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind not in SAME_ON_EVERY_DATABASE])
def test_no_text_makes_the_portal_fail(
    app: Flask, signed_in: SignedIn, requests: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limiter, "enabled", False)
    send_to_every_route(app, signed_in, requests, kind)


@pytest.mark.parametrize("kind", SAME_ON_EVERY_DATABASE)
def test_no_text_that_databases_store_makes_the_portal_fail(
    app: Flask, signed_in: SignedIn, requests: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limiter, "enabled", False)
    send_to_every_route(app, signed_in, requests, kind)


def send_to_every_route(app: Flask, signed_in: SignedIn, requests: list[tuple[str, str]], kind: str) -> None:
    """Send hostile text to all routes, and check the statuses."""
    failed, statuses = [], set()
    clients = {name: KeptSession(app, signed_in(name)) for name in ("alice", "root")}
    for method, url in requests:
        client = clients["root" if url.startswith("/admin") else "alice"]
        for form, status in send_forms(client, method, url, kind):
            statuses.add(status)
            if status >= 500:
                failed.append((status, method, url, form[:200]))
    assert failed == []
    assert statuses >= ({400} if kind == "nul" else {200, 303}), "the requests must reach the views"


def send_forms(client: KeptSession, method: str, url: str, kind: str) -> Iterator[tuple[str, int]]:
    """Send a form in which all fields are hostile, and forms in which one field is hostile and the others are valid.

    A field that the view does not read, not even when all fields are valid, cannot change its answer.

    Yields:
        Each form, and the status of the response.
    """
    ObservedFields.read.clear()
    form = encode(dict.fromkeys(list_fields(), HOSTILE[kind]))
    yield form, client.send(method, url, form)
    single = set(NUMBERS if "number" in kind else VALID if method == "POST" else ())
    if single:
        client.send(method, url, encode(VALID))
    sent: set[str] = set()
    while waiting := sorted((single & ObservedFields.read) - sent):
        sent.add(waiting[0])
        form = encode({**VALID, waiting[0]: HOSTILE[kind]})
        yield form, client.send(method, url, form)


class KeptSession:
    """A client that stays signed in, also after requests that sign out."""

    def __init__(self, app: Flask, client: FlaskClient) -> None:
        self._client = client
        cookie = client.get_cookie(session_cookie_name(app.extensions["settings"]))
        assert cookie is not None
        self._name, self._token = cookie.key, cookie.value

    def send(self, method: str, url: str, form: str) -> int:
        """Send a form, as the query or the body of a request, and return the status of the response."""
        self._client.set_cookie(self._name, self._token)
        if method == "GET":
            return self._client.get(f"{url}?{form}").status_code
        kind = "application/x-www-form-urlencoded"
        return self._client.open(url, method=method, data=form, content_type=kind).status_code

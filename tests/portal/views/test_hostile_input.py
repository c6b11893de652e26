"""Every route with hostile text in fields and parameters: it is refused or accepted, but the portal never fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Membership, UpdateState
from portal.paths import ROOT
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import limiter
from tests.portal.views.test_access_matrix import list_requests, roll_back_requests
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, rollout

pytestmark = [pytest.mark.slow, pytest.mark.requests, pytest.mark.every_database]

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


def list_fields() -> list[str]:
    """List the names of all fields and parameters, from templates, forms and views."""
    files = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "portal").rglob("*.py")]
    text = "\n".join(file.read_text() for file in files)
    return sorted({name for pattern in _FIELD_PATTERNS for name in re.findall(pattern, text, re.MULTILINE)})


def encode(fields: dict[str, str]) -> str:
    """Encode the fields of a form or query, lone surrogates, too."""
    return "&".join(f"{name}={quote(text.encode('utf-8', 'surrogatepass'))}" for name, text in fields.items())


def list_forms(kind: str, method: str) -> Iterator[str]:
    """Yield a form in which all fields are hostile, and forms in which one field is hostile and the others valid."""
    yield encode(dict.fromkeys(list_fields(), HOSTILE[kind]))
    single = NUMBERS if "number" in kind else VALID if method == "POST" else ()
    for name in single:
        yield encode({**VALID, name: HOSTILE[kind]})


@pytest.fixture
def requests(app: Flask, database: Database, cast: Cast, scene: Scene) -> list[tuple[str, str]]:
    """Method and address of every route, with ids of existing rows. No request changes the data of the next one."""
    app.testing = False  # errors are answered as in production
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


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_makes_the_portal_fail(
    app: Flask, signed_in: SignedIn, requests: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limiter, "enabled", False)
    forms = {method: list(list_forms(kind, method)) for method, _ in requests}
    failed, statuses = [], set()
    clients = {name: KeptSession(app, signed_in(name)) for name in ("alice", "root")}
    for method, url in requests:
        client = clients["root" if url.startswith("/admin") else "alice"]
        for form in forms[method]:
            status = client.send(method, url, form)
            statuses.add(status)
            if status >= 500:
                failed.append((status, method, url, form[:200]))
    assert failed == []
    assert statuses >= ({400} if kind == "nul" else {200, 303}), "the requests must reach the views"


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

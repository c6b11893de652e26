"""Rules that hold for every request and every answer."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.cast import SignedIn

pytestmark = pytest.mark.requests

A_FILE = b'--x\r\nContent-Disposition: form-data; name="email"; filename="a"\r\n\r\na@example.com\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "", "Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "", "Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
    ],
)
def test_forms_come_from_our_own_pages_only(signed_in: SignedIn, headers: dict[str, str], status: int) -> None:
    assert signed_in("alice").post("/logout", headers=headers).status_code == status


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "BREW"])
@pytest.mark.parametrize("site", ["same-origin", "cross-site"])
def test_a_foreign_host_is_refused_with_the_right_address(stranger: FlaskClient, method: str, site: str) -> None:
    headers = {"Sec-Fetch-Site": site}
    answer = stranger.open("/login", method=method, base_url="http://evil.example", headers=headers)
    assert answer.status_code == 400
    assert "http://localhost" in answer.text


@pytest.mark.parametrize("address", ["/o/%00/", "/o/acme/team?q=%00", "/o/acme/audit?person=a%00b"])
def test_what_no_text_can_hold_is_refused(signed_in: SignedIn, address: str) -> None:
    assert signed_in("alice").get(address).status_code == 400


def test_a_form_with_what_no_text_can_hold_is_refused(signed_in: SignedIn) -> None:
    answer = signed_in("alice").post("/orgs/new", data={"name": "Zed\0", "slug": "zed"})
    assert answer.status_code == 400


@pytest.mark.parametrize("data", [{"bots": ["one", "t\0wo"]}, {"na\0me": "Zed"}])
def test_every_value_and_name_of_a_request_is_looked_at(signed_in: SignedIn, data: dict[str, Any]) -> None:
    root = signed_in("root")
    assert root.get("/admin/rollouts/new", query_string=data).status_code == 400
    assert root.post("/admin/rollouts/new", data=data).status_code == 400


@pytest.mark.parametrize("address", ["/login", "/forgot", "/signup", "/account/password", "/orgs/new", "/logout"])
@pytest.mark.parametrize(
    "body",
    [
        {"json": {"email": "a@example.com"}},
        {"json": {"email": 5}},
        {"json": [1]},
        {"data": b"{", "content_type": "application/json"},
        {"data": b"", "content_type": "application/json"},
        {"data": b"email=a", "content_type": "text/plain"},
        {"data": b"email=a"},
        {"data": A_FILE, "content_type": "multipart/form-data; boundary=x"},
    ],
)
def test_forms_are_the_only_thing_taken(signed_in: SignedIn, address: str, body: dict[str, Any]) -> None:
    """Limits and checks look at forms; what the library reads besides would pass them by."""
    answer = signed_in("alice").post(address, **body)
    assert answer.status_code == 415
    assert "own forms" in answer.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_forms_are_taken_however_browsers_send_them(stranger: FlaskClient, kind: str) -> None:
    assert stranger.post("/forgot", data={"email": "a@example.com"}, content_type=kind).status_code == 303
    assert stranger.post("/logout").status_code == 303


def test_pages_may_load_nothing_from_elsewhere(stranger: FlaskClient) -> None:
    policy = stranger.get("/login").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


def test_pages_of_signed_in_people_are_never_cached(signed_in: SignedIn, stranger: FlaskClient) -> None:
    assert signed_in("mallory").get("/").headers["Cache-Control"] == "no-store"
    assert "HX-Request" in stranger.get("/login").headers["Vary"]


def test_vendor_files_are_exactly_those_that_pages_use(stranger: FlaskClient) -> None:
    with stranger.get("/vendor/htmx.min.js") as script:
        assert script.status_code == 200
        assert "max-age=31536000" in script.headers["Cache-Control"]
    assert stranger.get("/vendor/package.json").status_code == 404
    assert stranger.get("/vendor/../package.json").status_code == 404


def test_the_portal_says_that_it_works(stranger: FlaskClient) -> None:
    assert stranger.get("/healthz").json == {"status": "ok"}

"""Security of all requests: cross-site forms, hosts, content types, headers and static files."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.web.security import PUBLIC_FILES
from tests.support.cast import SignedIn

pytestmark = pytest.mark.requests

FORM_WITH_FILE = (
    b'--x\r\nContent-Disposition: form-data; name="email"; filename="a"\r\n\r\na@example.com\r\n--x--\r\n'
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "", "Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "", "Origin": "http://other.example"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
    ],
)
def test_forms_from_other_sites_are_refused(signed_in: SignedIn, headers: dict[str, str], status: int) -> None:
    assert signed_in("alice").post("/logout", headers=headers).status_code == status


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "BREW"])
@pytest.mark.parametrize("site", ["same-origin", "cross-site"])
def test_request_for_another_host_gets_the_right_address(stranger: FlaskClient, method: str, site: str) -> None:
    headers = {"Sec-Fetch-Site": site}
    answer = stranger.open("/login", method=method, base_url="http://other.example", headers=headers)
    assert answer.status_code == 400
    assert "http://localhost" in answer.text


@pytest.mark.parametrize("address", ["/o/%00/", "/o/acme/team?q=%00", "/o/acme/audit?person=a%00b"])
def test_nul_in_an_address_is_refused(signed_in: SignedIn, address: str) -> None:
    assert signed_in("alice").get(address).status_code == 400


def test_nul_in_a_form_is_refused(signed_in: SignedIn) -> None:
    answer = signed_in("alice").post("/orgs/new", data={"name": "Zed\0", "slug": "zed"})
    assert answer.status_code == 400


@pytest.mark.parametrize("data", [{"bots": ["one", "t\0wo"]}, {"na\0me": "Zed"}])
def test_nul_in_any_name_or_value_is_refused(signed_in: SignedIn, data: dict[str, Any]) -> None:
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
        {"data": FORM_WITH_FILE, "content_type": "multipart/form-data; boundary=x"},
    ],
)
def test_other_content_types_are_refused(signed_in: SignedIn, address: str, body: dict[str, Any]) -> None:
    """Flask-WTF would read JSON and files, which rate limits and checks do not inspect."""
    answer = signed_in("alice").post(address, **body)
    assert answer.status_code == 415
    assert "own forms" in answer.text


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_both_form_encodings_are_accepted(stranger: FlaskClient, kind: str) -> None:
    assert stranger.post("/forgot", data={"email": "a@example.com"}, content_type=kind).status_code == 303
    assert stranger.post("/logout").status_code == 303


def test_pages_may_load_content_from_the_portal_only(stranger: FlaskClient) -> None:
    policy = stranger.get("/login").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


def test_no_page_is_cached(app: Flask, signed_in: SignedIn, stranger: FlaskClient) -> None:
    rules = (rule for rule in app.url_map.iter_rules() if not rule.arguments and rule.endpoint not in PUBLIC_FILES)
    pages = [rule.rule for rule in rules if "GET" in (rule.methods or ())]
    assert {"/login", "/forgot/sent", "/reset", "/signup/finish", "/account"} <= set(pages)
    for client in (stranger, signed_in("alice")):
        for page in [*pages, "/nowhere", "/static/nowhere", "/vendor/nowhere", "/reset/token", "/o/acme/"]:
            answer = client.get(page)
            assert answer.headers["Cache-Control"] == "no-store", page
            assert "HX-Request" in answer.headers["Vary"]


def test_answers_to_invalid_forms_are_not_cached(stranger: FlaskClient) -> None:
    answer = stranger.post("/login", data={"email": "alice@example.com", "password": "wrong"})
    assert "alice@example.com" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_only_the_vendor_files_of_pages_are_served(stranger: FlaskClient) -> None:
    with stranger.get("/vendor/htmx.min.js") as script:
        assert script.status_code == 200
    assert stranger.get("/vendor/package.json").status_code == 404
    assert stranger.get("/vendor/../package.json").status_code == 404


def test_healthz_returns_ok(stranger: FlaskClient) -> None:
    assert stranger.get("/healthz").json == {"status": "ok"}

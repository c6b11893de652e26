"""Compression of responses: what is compressed, and for whom."""

from __future__ import annotations

import gzip

import pytest
from backports import zstd
from flask.testing import FlaskClient

from tests.support.cast import SignedIn

pytestmark = pytest.mark.requests

_ACCEPTED = {"Accept-Encoding": "gzip, deflate, br, zstd"}


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_pages_are_compressed(signed_in: SignedIn, site: str) -> None:
    alice = signed_in("alice")
    plain = alice.get("/account")
    answer = alice.get("/account", headers=_ACCEPTED | {"Sec-Fetch-Site": site})
    assert answer.headers["Content-Encoding"] == "zstd"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert "HX-Request" in answer.headers["Vary"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert b"Sign out" in zstd.decompress(answer.data)
    assert len(answer.data) < len(plain.data) / 2


@pytest.mark.parametrize("site", ["same-site", "cross-site", ""])
def test_page_that_another_site_requests_is_not_compressed(signed_in: SignedIn, site: str) -> None:
    """The length of a compressed page could tell that site the CSRF token (BREACH)."""
    answer = signed_in("alice").get("/account", headers=_ACCEPTED | {"Sec-Fetch-Site": site})
    assert "Content-Encoding" not in answer.headers
    assert "Sign out" in answer.text


def test_files_are_compressed_for_everybody(stranger: FlaskClient) -> None:
    with stranger.get("/static/app.css", headers={"Sec-Fetch-Site": ""}) as plain:
        content = plain.data
    with stranger.get(
        "/static/app.css", headers={"Accept-Encoding": "gzip", "Sec-Fetch-Site": "cross-site"}
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.data) == content
        tag = answer.headers["ETag"]
    with stranger.get("/static/app.css", headers={"Accept-Encoding": "gzip", "If-None-Match": tag}) as answer:
        assert (answer.status_code, answer.data) == (304, b"")


def test_part_of_a_file_is_not_compressed(stranger: FlaskClient) -> None:
    with stranger.get("/static/app.css", headers=_ACCEPTED | {"Range": "bytes=0-999"}) as answer:
        assert answer.status_code == 206
        assert "Content-Encoding" not in answer.headers
        assert len(answer.data) == 1000

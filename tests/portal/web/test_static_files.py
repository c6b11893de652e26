"""Files of pages: how long browsers keep them, and the styles that templates need."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from portal.paths import ROOT

pytestmark = pytest.mark.requests

_FOREVER = "public, max-age=31536000, immutable"
_QUOTED = re.compile(r"""(["'])([^"'{}]+)\1""")
_CLASS = re.compile(r"\.([A-Za-z][\w-]*)(?=[^{}]*\{)")
_FIELD_TYPES = {"checkbox", "radio", "search", "number", "date", "time", "password", "email", "text"}
_LINK = re.compile(r'(?:href|src)="(/(?:static|vendor)/[^"]+)"')


def test_browsers_keep_the_files_of_a_page(stranger: FlaskClient) -> None:
    links = _LINK.findall(stranger.get("/login").text)
    assert len(links) >= 6
    for link in links:
        with stranger.get(link) as answer:
            assert (answer.status_code, answer.headers["Cache-Control"]) == (200, _FOREVER)


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789", "?v=missing"])
@pytest.mark.parametrize("path", ["/static/app.css", "/static/x/../app.css", "/vendor/htmx.min.js"])
def test_browsers_do_not_keep_a_file_under_the_address_of_another_version(
    stranger: FlaskClient, path: str, query: str
) -> None:
    """During an upgrade, a page of a new process may request files from an old one."""
    with stranger.get(path + query) as answer:
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")


def test_cold_load_transfers_less_than_100_kilobytes(stranger: FlaskClient) -> None:
    headers = {"Accept-Encoding": "gzip, deflate, br, zstd", "Sec-Fetch-Site": "same-origin"}
    page = stranger.get("/login")
    transferred = len(stranger.get("/login", headers=headers).data)
    for link in _LINK.findall(page.text):
        with stranger.get(link, headers=headers) as answer:
            transferred += len(answer.data)
    assert transferred < 60_000


def test_styles_contain_every_rule_of_tabler_for_classes_in_templates() -> None:
    """Fails for a class that `purgecss.config.cjs` misses; `make install` writes the file after each change."""
    tabler, kept = _read_rules("node_modules/@tabler/core/dist/css/tabler.min.css"), _read_rules("static/tabler.css")
    files = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "static").glob("*.js")]
    used = {word for file in files for match in _QUOTED.findall(file.read_text()) for word in match[1].split()}
    assert {"btn", "card", "table"} <= used & tabler & kept
    assert used & tabler <= kept
    assert _FIELD_TYPES & tabler <= kept


def _read_rules(path: str) -> set[str]:
    """Return the classes and types of fields for which a stylesheet has rules."""
    text = (ROOT / path).read_text()
    return {*_CLASS.findall(text), *re.findall(r"\[type=\"?(\w+)", text)}

"""Which settings of a container are valid."""

from __future__ import annotations

from typing import Any

import pytest

from portal.rules import container_settings as checks


def test_variables_are_read_line_by_line() -> None:
    text = "A=1\n\n# a comment\n B = two words \nURL=https://x.example/?a=b\nEMPTY="
    assert checks.parse_variables(text) == {
        "A": "1",
        "B ": " two words",
        "URL": "https://x.example/?a=b",
        "EMPTY": "",
    }


@pytest.mark.parametrize("text", ["A=1\nno sign s3cret", "A=s3cret\nA=2"])
def test_unreadable_line_is_named_without_its_value(text: str) -> None:
    with pytest.raises(checks.InvalidLine, match="Line 2") as refusal:
        checks.parse_variables(text)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"1A": ""},
        {"A B": ""},
        {"": "x"},
        {"A": "a\nb"},
        {"A": "\x00"},
        {"A": "x" * 10_001},
        {"TAKEN": "1"},
        {"FLOTILLA_BOT_ID": "1"},
    ],
)
def test_invalid_variables_are_refused(variables: dict[str, str]) -> None:
    assert checks.find_variables_problem(variables, {"TAKEN"})
    assert checks.find_variables_problem({"_A1": "", "B": "ü"}, {"TAKEN"}) is None


@pytest.mark.parametrize(
    "paths", [["data"], ["/"], ["/data/"], ["/a/../b"], ["/data", "/data"], ["/a b"], ["/a:b"], ["/a,b"], [""]]
)
def test_invalid_volumes_are_refused(paths: list[str]) -> None:
    assert checks.find_volumes_problem(paths)
    assert checks.find_volumes_problem(["/data", "/data/deep", "/paper-clip_1.x"]) is None


def test_only_known_capabilities_are_accepted() -> None:
    assert checks.normalize_capability(" cap_chown ") == "CHOWN"
    assert checks.find_capabilities_problem(["CHOWN", "SETUID"]) is None
    assert checks.find_capabilities_problem(["ALL"])
    assert checks.find_capabilities_problem(["CHOWN", "CAP_SETUID"])


@pytest.mark.parametrize("prefix", ["x", "X-User", "content", "x-", "x--a", "x-user_", "x-a\r\nb", "x-" + "a" * 70])
def test_invalid_header_prefixes_are_refused(prefix: str) -> None:
    assert checks.find_header_prefix_problem(prefix)
    assert checks.find_header_prefix_problem("x-platform-user") is None


@pytest.mark.parametrize("path", ["", "health", "//evil.example/", "/a b", "/a#b", "/ä", "/a\r\nX: y"])
def test_invalid_health_paths_are_refused(path: str) -> None:
    assert checks.find_health_path_problem(path)
    assert checks.find_health_path_problem("/api/health?deep=1") is None


@pytest.mark.parametrize(
    "url", ["ftp://a.example", "https://", "https://user:pw@a.example", "https://a.example/ b", "https://a:0x/", "x"]
)
def test_invalid_urls_are_refused(url: str) -> None:
    assert checks.find_url_problem(url)
    assert checks.find_url_problem("https://models.example:8443/v1") is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({}, list),
        ([1], list),
        ([], dict),
        ("x", dict),
        ([{"a": "x" * 60_000}], list),
        ({"a": float("nan")}, dict),
    ],
)
def test_json_of_another_shape_is_refused(value: Any, kind: type) -> None:
    assert checks.find_json_problem(value, kind)
    assert checks.find_json_problem([{"name": "a"}], list) is None
    assert checks.find_json_problem({"a": [1]}, dict) is None

"""The contract page: its clauses are those of the checks, and its examples are true for the reference bot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks import ALL_CHECKS
from daemon.conformance.checks.member_list import GRANTS
from daemon.conformance.exchange import Request, exchange
from daemon.conformance.options import BotOptions
from daemon.registry.changelog_format import parse_changelog
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.server import running_server
from portal.paths import ROOT
from tests.demo.reference_bot.local_bots import make_bot

PAGE = (ROOT / "docs" / "bot-contract.md").read_text()
CLAUSE = re.compile(r"^\| (C\d+) \| (.*) \|$", re.MULTILINE)
EXAMPLE = re.compile(r"^```http\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECRET = "PROVISION_SECRET"
UNTESTED = "(Not tested.)"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a reference bot in hosted mode, whose secret is that of the examples."""
    bot = make_bot(tmp_path, Configuration(port=0, hosted=True, secrets=(SECRET,)))
    with running_server(bot) as port:
        bot.migrate()
        yield f"127.0.0.1:{port}"


def parse_example(text: str) -> tuple[Request, int, Any]:
    """Return the request of an example, the status of its answer, and the body of the answer, if it has one."""
    sent, _, received = text.partition("\nHTTP/1.1 ")
    head, _, body = sent.partition("\n\n")
    line, *headers = head.strip().splitlines()
    method, path = line.split(" ")
    pairs = dict(header.split(": ", 1) for header in headers)
    status, _, answer = received.partition("\n")
    content = " ".join(body.split("\n")).strip().encode() or None
    return Request(method, path, pairs, content), int(status), json.loads(answer) if answer.strip() else None


def test_clauses_are_numbered_in_order() -> None:
    assert [clause for clause, _ in CLAUSE.findall(PAGE)] == [
        f"C{n}" for n in range(1, len(CLAUSE.findall(PAGE)) + 1)
    ]


def test_every_clause_has_a_check_or_says_that_it_has_none() -> None:
    checked = {check.clause for check in ALL_CHECKS}
    # Every run tests these: the sandbox has no network, and each exchange has its limits.
    always = {"C1", "C27"}
    clauses = dict(CLAUSE.findall(PAGE))
    assert checked - clauses.keys() == set()
    assert {clause for clause, text in clauses.items() if UNTESTED in text} == clauses.keys() - checked - always


def test_names_of_checks_are_unique() -> None:
    assert len({check.name for check in ALL_CHECKS}) == len(ALL_CHECKS)
    assert len({check.title for check in ALL_CHECKS}) == len(ALL_CHECKS)


def test_checks_come_after_those_that_they_need() -> None:
    order = {check: number for number, check in enumerate(ALL_CHECKS)}
    assert [check.name for check in ALL_CHECKS if any(order[needed] >= order[check] for needed in check.needs)] == []


def test_grants_of_roles_are_those_of_the_page() -> None:
    rows = {
        row[0]: row[2] for row in re.findall(r"^\| (owner|admin|member) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"`([a-z:_]+)`", rows["owner"])) == GRANTS["owner"]
    assert rows["admin"] == "those of the owner without `company:delete`"
    assert GRANTS["admin"] == GRANTS["owner"] - {"company:delete"}
    assert set(re.findall(r"`([a-z:_]+)`", rows["member"])) == GRANTS["member"]


def test_every_call_of_the_table_has_an_example() -> None:
    table = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) /internal[^?`]*)", PAGE, re.MULTILINE))
    examples = {str(parse_example(text)[0]) for text in EXAMPLE.findall(PAGE)}
    assert table == {
        calls.PROVISION,
        calls.SET_BUDGET,
        calls.TEAR_DOWN,
        calls.ADD,
        calls.CHANGE_ROLE,
        calls.REMOVE,
    } | {
        calls.LIST,
        calls.HEALTH,
    }
    assert table - examples == set()


def test_examples_are_true_for_the_reference_bot(address: str) -> None:
    examples = EXAMPLE.findall(PAGE)
    assert len(examples) >= 12
    company = ""
    for text in examples:
        # The bot chooses the id of the company.
        request, status, expected = parse_example(text.replace("cmp_91c2", company) if company else text)
        answer = exchange(address, request, 10)
        assert answer.status == status, (text, answer)
        if expected is None:
            continue
        found = answer.parse()
        if not company:
            company = found["tenantEntityId"]
            expected["tenantEntityId"] = company
        assert contains(found, expected), (text, found)


def contains(found: Any, expected: Any) -> bool:
    """Return whether a document has everything that another one has."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(contains(found.get(name), value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(contains, found, expected))
    return bool(found == expected)


def test_example_of_a_changelog_is_valid() -> None:
    (text,) = re.findall(r"^```json changelog\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert parse_changelog(text.encode()) == json.loads(text)


def test_defaults_of_the_page_are_those_of_the_options() -> None:
    options = BotOptions()
    assert f"listen on port {options.port} " in PAGE
    assert f"`GET {options.health_path}` must answer" in PAGE
    assert f"`PROVISION_SECRET` and `{options.header_prefix}`" in PAGE
    assert options.secret_variable == SECRET
    assert "by default `/data` and `/paperclip`" in PAGE
    assert options.volumes == ("/data", "/paperclip")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ('Zoë "Z"', 'Zo%C3%AB "Z"'),
        ("100%", "100%25"),
        ("  a b ", "a b"),
        ("ä" * 100, "%C3%A4" * 42),
        ("x" * 300, "x" * 256),
        ("x" * 255 + "ä", "x" * 255),
        ("a\nb", "a%0Ab"),
        ("", ""),
    ],
)
def test_header_values_are_encoded_and_cut_between_characters(text: str, encoded: str) -> None:
    assert calls.encode_header(text) == encoded

"""Which listed members differ from the expected ones, and how many unknown members may be removed."""

from __future__ import annotations

import pytest

from portal.rules.member_drift import ExpectedMember, ListedMember, find_drift, list_unknown, may_remove
from portal.rules.roles import BOT_GRANTS, SyncRole


@pytest.mark.parametrize(
    ("expected", "listed", "differs"),
    [
        (SyncRole.MEMBER, ListedMember("u", "member"), False),
        (SyncRole.MEMBER, ListedMember("u", "admin"), True),
        (SyncRole.MEMBER, ListedMember("u", "guest"), True),
        (SyncRole.MEMBER, None, True),
        (SyncRole.NONE, None, False),
        (SyncRole.NONE, ListedMember("u", "none"), True),
        (SyncRole.ADMIN, ListedMember("u", "admin", version=3), False),
        (SyncRole.ADMIN, ListedMember("u", "admin", version=4), True),
        (SyncRole.ADMIN, ListedMember("u", "admin", grants=BOT_GRANTS[SyncRole.ADMIN]), False),
        (SyncRole.ADMIN, ListedMember("u", "admin", grants=BOT_GRANTS[SyncRole.OWNER]), True),
        (SyncRole.MEMBER, ListedMember("u", "member", grants=frozenset()), True),
    ],
)
def test_differences(expected: SyncRole, listed: ListedMember | None, differs: bool) -> None:
    found = find_drift({"u": ExpectedMember(expected, 3)}, {"u": listed} if listed else {})
    assert found == (["u"] if differs else [])


def test_unknown_members_are_those_without_an_expectation() -> None:
    listed = {"a": ListedMember("a", "member"), "b": ListedMember("b", "member")}
    assert list_unknown(["a", "c"], listed) == [listed["b"]]


@pytest.mark.parametrize(
    ("unknown", "listed", "allowed", "expected"),
    [
        (3, 3, None, True),
        (4, 4, None, False),
        (4, 13, None, False),
        (4, 14, None, True),
        (30, 100, None, True),
        (31, 100, None, False),
        (31, 40, 31, True),
        (32, 40, 31, False),
    ],
)
def test_limit_of_removals(unknown: int, listed: int, allowed: int | None, expected: bool) -> None:
    assert may_remove(unknown, listed, allowed) is expected

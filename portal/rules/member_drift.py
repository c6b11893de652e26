"""Drift: differences between the members that a bot lists and those that it should have. Used by reconciliation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from portal.rules.roles import BOT_GRANTS, SyncRole

MAX_REMOVALS = 3
MAX_REMOVED_SHARE = 0.3


@dataclass(frozen=True)
class ListedMember:
    """A member as a bot lists it.

    Attributes:
        user_id: the platform's id of the user, or any text if the bot was tampered with.
        role: usually a value of `SyncRole`.
        version: version of the last change that the bot knows; None where it knows no versions.
        grants: what the member may do; None where the bot does not list it.
    """

    user_id: str
    role: str
    version: int | None = None
    grants: frozenset[str] | None = None


@dataclass(frozen=True)
class ExpectedMember:
    """The last change of a user that a bot confirmed; `SyncRole.NONE` for a removed user."""

    role: SyncRole
    version: int


def find_drift(expected: Mapping[str, ExpectedMember], listed: Mapping[str, ListedMember]) -> list[str]:
    """Return the ids of the expected users whom the bot lists differently, or lists although they were removed."""
    return [user_id for user_id, member in expected.items() if _differs(member, listed.get(user_id))]


def may_remove(unknown: int, listed: int, allowed: int | None) -> bool:
    """Return whether so many unknown members may be removed at once.

    Many unknown members suggest that Flotilla compares with the wrong company.

    Args:
        unknown: number of members whom Flotilla does not know.
        listed: number of all members that the bot lists.
        allowed: how many removals an operator has allowed, if any.
    """
    return unknown <= max(MAX_REMOVALS, MAX_REMOVED_SHARE * listed, allowed or 0)


def list_unknown(known_ids: Iterable[str], listed: Mapping[str, ListedMember]) -> list[ListedMember]:
    """Return the listed members whose ids are not known."""
    known = set(known_ids)
    return [member for user_id, member in listed.items() if user_id not in known]


def _differs(expected: ExpectedMember, listed: ListedMember | None) -> bool:
    if listed is None:
        return expected.role is not SyncRole.NONE
    if expected.role is SyncRole.NONE or listed.role != expected.role:
        return True
    if listed.version is not None and listed.version > expected.version:
        return True  # the next change would be refused as stale
    return listed.grants is not None and listed.grants != BOT_GRANTS[expected.role]

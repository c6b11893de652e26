"""Reading the answers of a bot: ids of companies and lists of members. Used by `Trial` and the checks."""

from __future__ import annotations

from typing import Any

from daemon.conformance.exchange import Answer
from daemon.conformance.outcomes import Violation

_MAX_ID = 100


def read_text(answer: Answer, field_name: str) -> str:
    """Return a text of an answer.

    Raises:
        Violation: the answer lacks it, or it is no text, empty, too long, or has control characters.
    """
    value = answer.parse().get(field_name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID or not value.isprintable():
        raise Violation(f"{answer}, expected {field_name} with a text of 1 to {_MAX_ID} characters.")
    return value


def read_members(answer: Answer) -> dict[str, dict[str, Any]]:
    """Return the entries of a list of members by the ids of the persons.

    Raises:
        Violation: the answer has not the documented shape.
    """
    members = answer.parse().get("members")
    if not isinstance(members, list) or not all(map(_is_member, members)):
        raise Violation(f"{answer}, expected a list of members, each with userId and role.")
    found = {member["userId"]: member for member in members}
    if len(found) < len(members):
        raise Violation(f"{answer}, which lists a person twice.")
    return found


def _is_member(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("userId"), str)
        and value.get("role") in {"owner", "admin", "member"}
    )

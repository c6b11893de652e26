"""Who sends a request, by the identity headers of the platform's gateway, and what this person may do here.

Used by the HTTP server and the pages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from email.message import Message
from typing import Any
from urllib.parse import unquote

from . import members
from .assertion import HEADER, AssertionVerifier, InvalidAssertion
from .database import Database
from .members import Member, Person


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Attributes:
        person: id, email and name; empty texts where they are unknown.
        memberships: the memberships of this person, the strongest role first.
    """

    person: Person
    memberships: tuple[Member, ...]

    @property
    def is_member(self) -> bool:
        """Whether the caller belongs to a company of this instance."""
        return bool(self.memberships)

    @property
    def is_instance_admin(self) -> bool:
        """Whether the caller is owner or admin of a company of this instance."""
        return any(member.instance_admin for member in self.memberships)

    def describe(self) -> dict[str, Any]:
        """Return the caller as JSON; role and grants are those of the strongest membership."""
        strongest = self.memberships[0] if self.memberships else None
        return {
            "id": self.person.user_id,
            "email": self.person.email,
            "name": self.person.name,
            "role": strongest and strongest.role,
            "grants": list(strongest.grants) if strongest else [],
            "instanceAdmin": self.is_instance_admin,
        }


_STRANGER = Caller(Person("", "", ""), ())


def read_caller(headers: Message, prefix: str, database: Database) -> Caller:
    """Return the sender of a request, as the identity headers say.

    Args:
        headers: the headers of the request; values are percent-encoded UTF-8.
        prefix: the first part of the names of the identity headers, such as `x-platform-user`.
        database: the database with the member table.
    """
    user_id, email, name = (_read_header(headers, f"{prefix}-{part}") for part in ("id", "email", "name"))
    with database.read() as connection:
        memberships = tuple(members.list_memberships(connection, user_id)) if user_id else ()
    if memberships:
        known = memberships[0].person
        email, name = email or known.email, name or known.name
    return Caller(Person(user_id, email, name), memberships)


def require_proof(caller: Caller, headers: Message, verifier: AssertionVerifier) -> Caller:
    """Return the caller as the signed assertion describes them, or a stranger if it proves another id or nothing."""
    try:
        person = verifier.verify(_read_header(headers, HEADER))
    except InvalidAssertion:
        return _STRANGER
    return replace(caller, person=person) if person.user_id == caller.person.user_id else _STRANGER


def _read_header(headers: Message, name: str) -> str:
    # The gateway sends every header once. Of two values, one is forged.
    values = headers.get_all(name, [])
    return unquote(values[0]) if len(values) == 1 else ""

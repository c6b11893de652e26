"""The member table: who belongs to which company, with which role. Used by the provision protocol and the pages.

Every function takes a connection, so that its caller decides what belongs to one transaction. Each row has the
version of the last change that the platform sent; a removal leaves a row without a role, so that its version is kept.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .roles import GRANTS, INSTANCE_ADMIN_ROLES, ROLES


class UnknownCompany(LookupError):
    """The company does not exist."""


class UnknownUser(LookupError):
    """The user is not a member of the company."""


class StaleVersion(Exception):
    """The change is older than one that was made before."""


@dataclass(frozen=True)
class Person:
    """A user of the platform."""

    user_id: str
    email: str
    name: str


@dataclass(frozen=True)
class Member:
    """A member of one company.

    Attributes:
        person: the user.
        role: the role in this company.
        version: version of the last change of this member; None if no change had a version.
        instance_admin: whether the user is owner or admin of any company of this instance.
    """

    person: Person
    role: str
    version: int | None
    instance_admin: bool

    @property
    def grants(self) -> tuple[str, ...]:
        """What the member may do in the company."""
        return GRANTS[self.role]


def add_member(
    connection: sqlite3.Connection, company_id: str, person: Person, role: str, version: int | None
) -> None:
    """Add a member, or change the name, email and role of a member. Roles in other companies stay unchanged.

    Args:
        connection: a writing connection.
        company_id: the company.
        person: the user, whose name and email are stored.
        role: the role in this company.
        version: version of the change; None if the platform sent none. The same version may be applied again.

    Raises:
        UnknownCompany: the company does not exist.
        StaleVersion: a newer change was made before.
    """
    _check_version(connection, company_id, person.user_id, version)
    connection.execute(
        """
        INSERT INTO users (id, email, name) VALUES (?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name
        """,
        (person.user_id, person.email, person.name),
    )
    _save(connection, company_id, person.user_id, role, version)


def change_role(
    connection: sqlite3.Connection, company_id: str, user_id: str, role: str, version: int | None
) -> None:
    """Change the role of a member; the arguments are those of `add_member`.

    Raises:
        UnknownCompany: the company does not exist.
        StaleVersion: a newer change was made before.
        UnknownUser: the user is not a member.
    """
    _check_version(connection, company_id, user_id, version)
    query = "SELECT 1 FROM members WHERE company_id = ? AND user_id = ? AND role IS NOT NULL"
    if connection.execute(query, (company_id, user_id)).fetchone() is None:
        raise UnknownUser
    _save(connection, company_id, user_id, role, version)


def remove_member(connection: sqlite3.Connection, company_id: str, user_id: str, version: int | None) -> None:
    """Remove a member and keep the version; a user who is not a member may be removed, too.

    The name and the email are erased with the last membership.

    Raises:
        UnknownCompany: the company does not exist.
        StaleVersion: a newer change was made before.
    """
    _check_version(connection, company_id, user_id, version)
    _save(connection, company_id, user_id, None, version)
    erase_strangers(connection)


def erase_strangers(connection: sqlite3.Connection) -> None:
    """Erase the names and emails of users who belong to no company."""
    connection.execute("DELETE FROM users WHERE id NOT IN (SELECT user_id FROM members WHERE role IS NOT NULL)")


def list_members(connection: sqlite3.Connection, company_id: str) -> list[Member]:
    """Return the members of a company by user id.

    Raises:
        UnknownCompany: the company does not exist.
    """
    _check_company(connection, company_id)
    return [member for company, member in _list_all(connection) if company == company_id]


def list_memberships(connection: sqlite3.Connection, user_id: str) -> list[Member]:
    """Return the memberships of a user in all companies, the strongest role first; empty for a stranger."""
    memberships = [member for _, member in _list_all(connection) if member.person.user_id == user_id]
    return sorted(memberships, key=lambda member: ROLES.index(member.role))


def _list_all(connection: sqlite3.Connection) -> list[tuple[str, Member]]:
    rows = connection.execute(
        """
        SELECT company_id, user_id, email, name, role, version
        FROM members JOIN users ON users.id = user_id
        WHERE role IS NOT NULL
        ORDER BY company_id, user_id
        """
    ).fetchall()
    admins = {user_id for _, user_id, _, _, role, _ in rows if role in INSTANCE_ADMIN_ROLES}
    return [
        (company_id, Member(Person(user_id, email, name), role, version or None, instance_admin=user_id in admins))
        for company_id, user_id, email, name, role, version in rows
    ]


def _check_company(connection: sqlite3.Connection, company_id: str) -> None:
    if connection.execute("SELECT 1 FROM companies WHERE id = ?", (company_id,)).fetchone() is None:
        raise UnknownCompany


def _check_version(connection: sqlite3.Connection, company_id: str, user_id: str, version: int | None) -> None:
    _check_company(connection, company_id)
    query = "SELECT version FROM members WHERE company_id = ? AND user_id = ?"
    row = connection.execute(query, (company_id, user_id)).fetchone()
    if row is not None and version is not None and version < row[0]:
        raise StaleVersion


def _save(
    connection: sqlite3.Connection, company_id: str, user_id: str, role: str | None, version: int | None
) -> None:
    # A change without a version keeps the version of the row, so that older changes with one stay refused.
    connection.execute(
        """
        INSERT INTO members (company_id, user_id, role, version) VALUES (?, ?, ?, ?)
        ON CONFLICT (company_id, user_id) DO UPDATE SET role = excluded.role, version = max(version, excluded.version)
        """,
        (company_id, user_id, role, version or 0),
    )

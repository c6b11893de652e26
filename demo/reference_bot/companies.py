"""The companies of an instance: provision, change the budget, delete. Used by the provision protocol."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from uuid import uuid4

from . import members
from .members import Person, UnknownCompany


@dataclass(frozen=True)
class Company:
    """A company, which the platform calls a tenant.

    Attributes:
        name: shown on pages.
        budget_cents: what the company may spend per month, in cents.
    """

    name: str
    budget_cents: int


def provision(connection: sqlite3.Connection, tenant_id: str, company: Company, admin: Person) -> str:
    """Create the company of a tenant with its owner, or update name and budget if the tenant has a company.

    The members of an existing company stay unchanged: a repeated call must not undo a later change or removal.

    Args:
        connection: a writing connection.
        tenant_id: the platform's id of the tenant, which has one company.
        company: name and budget.
        admin: the owner.

    Returns:
        The id of the company.
    """
    new_id = uuid4().hex
    row = connection.execute(
        """
        INSERT INTO companies (id, tenant_id, name, budget_cents) VALUES (?, ?, ?, ?)
        ON CONFLICT (tenant_id) DO UPDATE SET name = excluded.name, budget_cents = excluded.budget_cents
        RETURNING id
        """,
        (new_id, tenant_id, company.name, company.budget_cents),
    ).fetchone()
    company_id: str = row[0]
    if company_id == new_id:
        members.add_member(connection, company_id, admin, "owner", None)
    return company_id


def change_budget(connection: sqlite3.Connection, company_id: str, budget_cents: int) -> None:
    """Change the budget of a company.

    Raises:
        UnknownCompany: the company does not exist.
    """
    query = "UPDATE companies SET budget_cents = ? WHERE id = ?"
    if connection.execute(query, (budget_cents, company_id)).rowcount == 0:
        raise UnknownCompany


def delete_company(connection: sqlite3.Connection, company_id: str) -> None:
    """Delete a company with its members and their versions.

    Raises:
        UnknownCompany: the company does not exist.
    """
    if connection.execute("DELETE FROM companies WHERE id = ?", (company_id,)).rowcount == 0:
        raise UnknownCompany
    members.erase_strangers(connection)


def list_companies(connection: sqlite3.Connection) -> dict[str, Company]:
    """Return all companies by id, ordered by name."""
    rows = connection.execute("SELECT id, name, budget_cents FROM companies ORDER BY name, id")
    return {company_id: Company(name, budget_cents) for company_id, name, budget_cents in rows}

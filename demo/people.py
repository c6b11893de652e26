"""Somebody of every role for each of the demo's organizations, so that all of the portal can be looked at."""

from __future__ import annotations

from collections.abc import Iterable

from portal.database import Database
from portal.models import MembershipRole
from portal.password_hashing import hash_password
from portal.services.accounts import accounts
from portal.services.orgs import memberships, orgs

_NAMES = {MembershipRole.ADMIN: "Adam Admin", MembershipRole.MEMBER: "Mia Member"}
_OWNER = "Olivia Owner"


def add_people(database: Database, slugs: Iterable[str], password: str) -> None:
    """Give the owners a password, and add `admin@<slug>.example` and `member@<slug>.example` with the same one.

    Who has a password or belongs to the organization already stays as they are.
    """
    password_hash = hash_password(password)
    for slug in slugs:
        with database.transaction() as session:
            org = orgs.find_by_slug(session, slug)
            if org is None:
                continue
            org = orgs.lock_org(session, org)
            if org.owner.password_hash is None:
                org.owner.name, org.owner.password_hash = _OWNER, password_hash
            for role, name in _NAMES.items():
                address = f"{role}@{slug}.example"
                if accounts.find_by_email(session, address) is None:
                    person = accounts.create(session, address, name, password_hash)
                    memberships.add_member(session, org, person, role, org.owner)

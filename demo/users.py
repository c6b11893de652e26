"""Accounts for the demo's organizations, one per role, so that every page can be visited. Used when a demo starts."""

from __future__ import annotations

from collections.abc import Iterable

from portal.database import Database
from portal.models import MembershipRole, utcnow
from portal.password_hashing import hash_password
from portal.services.accounts import accounts
from portal.services.orgs import memberships, orgs

_NAMES = {MembershipRole.ADMIN: "Adam Admin", MembershipRole.MEMBER: "Mia Member"}
_OWNER_NAME = "Olivia Owner"


def add_users(database: Database, slugs: Iterable[str], password: str) -> None:
    """Give each owner a password, and add an account `<role>@<slug>.example` with the same password for each role.

    Existing passwords and memberships stay unchanged.

    Args:
        database: the demo's database.
        slugs: the organizations; unknown ones are skipped.
        password: for all accounts.
    """
    password_hash = hash_password(password)
    for slug in slugs:
        with database.transaction() as session:
            org = orgs.find_by_slug(session, slug)
            if org is None:
                continue
            org = orgs.lock_org(session, org)
            if org.owner.password_hash is None:
                org.owner.name, org.owner.password_hash = _OWNER_NAME, password_hash
            for role, name in _NAMES.items():
                email = f"{role}@{slug}.example"
                if accounts.find_by_email(session, email) is None:
                    user = accounts.create_user(session, email, name, password_hash)
                    memberships.add_member(session, org, user, role, actor=org.owner, now=utcnow())

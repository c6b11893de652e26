"""Tests of the accounts of the demo's organizations."""

from __future__ import annotations

from demo.users import add_users
from portal.database import Database
from portal.models import utcnow
from portal.password_hashing import verify_password
from portal.rules.roles import ROLES
from portal.services.accounts import accounts
from portal.services.orgs import creation, orgs

PASSWORD = "the password of the demo"


def test_every_role_can_sign_in_and_a_second_start_changes_nothing(database: Database) -> None:
    with database.transaction() as session:
        creation.create_org_for_email(session, "acme", "Acme Paper", "owner@acme.example", now=utcnow())

    add_users(database, ["acme", "gone"], PASSWORD)
    add_users(database, ["acme", "gone"], "another password")

    with database.reading() as session:
        org = orgs.find_by_slug(session, "acme")
        assert org is not None
        for role in ROLES:
            user = accounts.find_by_email(session, f"{role}@acme.example")
            assert user is not None
            assert role in orgs.list_roles(session, org, user)
            assert verify_password(user.password_hash, PASSWORD)

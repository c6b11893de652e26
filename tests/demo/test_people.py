"""Somebody of every role in each organization of the demo."""

from __future__ import annotations

from demo.people import add_people
from portal.database import Database
from portal.password_hashing import verify_password
from portal.policy import Role
from portal.services.accounts import accounts
from portal.services.orgs import creation, orgs

PASSWORD = "the password of the demo"


def test_every_role_can_sign_in_and_starting_again_changes_nothing(database: Database) -> None:
    with database.transaction() as session:
        creation.create_org_for_email(session, "acme", "Acme Paper", "owner@acme.example")

    add_people(database, ["acme", "gone"], PASSWORD)
    add_people(database, ["acme", "gone"], "another password")

    with database.reading() as session:
        org = orgs.find_by_slug(session, "acme")
        assert org is not None
        for role in (Role.OWNER, Role.ADMIN, Role.MEMBER):
            person = accounts.find_by_email(session, f"{role}@acme.example")
            assert person is not None
            assert role in orgs.list_roles(session, org, person)
            assert verify_password(person.password_hash, PASSWORD)

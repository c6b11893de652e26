"""Tests of creating and finding accounts."""

import pytest

from portal.database import Database
from portal.models import Event
from portal.services.accounts import accounts
from portal.services.errors import ConflictError, InvalidError


def test_account_is_found_by_email_in_any_case(database: Database) -> None:
    with database.transaction() as session:
        created = accounts.create_operator(session, " Olga@Example.com ", "Olga", "a hash")
        assert created.is_platform_admin
    with database.reading() as session:
        found = accounts.find_credentials(session, "OLGA@example.COM")
        assert found is not None
        assert found.user_id == created.id
        assert "a hash" not in repr(found)
        assert session.query(Event).one().tag == "user.operator_created"


def test_second_account_with_the_same_email_is_refused(database: Database) -> None:
    with database.transaction() as session:
        accounts.create_operator(session, "olga@example.com", "Olga", "a hash")
        with pytest.raises(ConflictError, match="already has an account"):
            accounts.create_operator(session, "OLGA@example.com", "Other", "a hash")


@pytest.mark.parametrize(
    ("email", "name", "field"),
    [
        ("olga", "Olga", "email"),
        ("a b@example.com", "Olga", "email"),
        ("a" * 250 + "@example.com", "Olga", "email"),
        ("olga@example.com", " ", "name"),
        ("olga@example.com", "Ol\nga", "name"),
        ("olga@example.com", "O" * 101, "name"),
    ],
)
def test_invalid_email_or_name_is_refused(database: Database, email: str, name: str, field: str) -> None:
    with database.transaction() as session, pytest.raises(InvalidError) as refusal:
        accounts.create_operator(session, email, name, "a hash")
    assert refusal.value.field == field

"""Passwords at rest."""

from portal.password_hashing import hash_password, verify_password


def test_only_the_same_password_fits() -> None:
    stored = hash_password("a long and boring password")
    assert stored.startswith("$argon2id$")
    assert verify_password(stored, "a long and boring password")
    assert not verify_password(stored, "a long and boring Password")


def test_without_a_stored_password_nothing_fits() -> None:
    assert not verify_password(None, "")
    assert not verify_password(None, "anything")
    assert not verify_password("no hash at all", "anything")

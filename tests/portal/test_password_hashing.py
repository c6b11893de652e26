"""Tests of password hashing."""

from portal.password_hashing import hash_password, verify_password


def test_only_the_same_password_is_verified() -> None:
    stored = hash_password("a long and boring password")
    assert stored.startswith("$argon2id$")
    assert verify_password(stored, "a long and boring password")
    assert not verify_password(stored, "a long and boring Password")


def test_missing_or_invalid_hash_verifies_no_password() -> None:
    assert not verify_password(None, "")
    assert not verify_password(None, "anything")
    assert not verify_password("no hash at all", "anything")

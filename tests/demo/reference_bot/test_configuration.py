"""The settings of the reference bot."""

from __future__ import annotations

import pytest

from demo.reference_bot.configuration import Configuration, read_configuration


def test_defaults_are_those_of_the_contract() -> None:
    expected = Configuration(port=3100, hosted=False, header_prefix="x-platform-user", secrets=())
    assert read_configuration({}) == expected
    assert read_configuration({"PORT": "", "IDENTITY_HEADER_PREFIX": "", "HOSTED_MODE": "0"}) == expected


def test_every_setting_has_a_variable() -> None:
    environment = {"PORT": "80", "HOSTED_MODE": "1", "IDENTITY_HEADER_PREFIX": "x-user"}
    assert read_configuration(environment) == Configuration(port=80, hosted=True, header_prefix="x-user")


@pytest.mark.parametrize(
    ("secret", "previous", "accepted"), [("a", "b", ("a", "b")), ("a", "", ("a",)), ("", "b", ()), ("", "", ())]
)
def test_the_previous_secret_needs_a_current_one(secret: str, previous: str, accepted: tuple[str, ...]) -> None:
    environment = {"PROVISION_SECRET": secret, "PROVISION_SECRET_PREVIOUS": previous}
    assert read_configuration(environment).secrets == accepted


def test_secrets_are_not_printed() -> None:
    assert "sesame" not in repr(read_configuration({"PROVISION_SECRET": "sesame"}))

"""Secrets in the log lines of bots."""

from __future__ import annotations

from portal.rules.hidden_secrets import hide_secrets


def test_secrets_are_replaced_the_longest_first() -> None:
    assert hide_secrets("a secret, a secret-2", ["secret", "secret-2"]) == "a ***, a ***"


def test_short_values_and_missing_ones_stay() -> None:
    assert hide_secrets("level debug, port 3100", ["debug", "3100", "", None]) == "level debug, port 3100"

"""Secrets in the log lines of bots."""

from __future__ import annotations

from portal.rules.hidden_secrets import SECRET_VARIABLES, hide_secrets, list_secret_values


def test_secrets_are_replaced_the_longest_first() -> None:
    assert hide_secrets("a secret, a secret-2", ["secret", "secret-2"]) == "a ***, a ***"


def test_short_values_and_missing_ones_stay() -> None:
    assert hide_secrets("level debug, port 3100", ["debug", "3100", "", None]) == "level debug, port 3100"


def test_secret_is_hidden_in_every_form_in_which_programs_write_it() -> None:
    secret = 'p"ss/wörd+1'
    text = f'{secret} {{"key": "p\\"ss/w\\u00f6rd+1"}} postgres://bot:p%22ss%2Fw%C3%B6rd%2B1@db/x'
    assert hide_secrets(text, [secret]) == '*** {"key": "***"} postgres://bot:***@db/x'


def test_each_line_of_a_secret_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----"
    assert hide_secrets("MIIEvQIBADANBg\nfine", [key]) == "***\nfine"


def test_values_are_secret_by_the_names_of_their_variables_and_passwords_in_urls() -> None:
    environment = {
        "API_TOKEN": "token-1",
        "openai_key": "key-1",
        "MODE": "production",
        "DB": "postgres://bot:p%40ssword@db/x",
        "BROKEN": "http://[",
    }
    assert list_secret_values(environment, SECRET_VARIABLES) == ["token-1", "key-1", "p%40ssword", "p@ssword"]
    assert "production" in list_secret_values(environment, ["mod*"])

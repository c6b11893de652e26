"""Hiding of secrets in the logs of bots, before these are stored. Used by log pages, creations and updates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, unquote, urlsplit

SECRET_VARIABLES = [
    *("*SECRET*", "*TOKEN*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*_PASS", "*KEY*", "*CREDENTIAL*", "*DSN*"),
    "*COOKIE*",
]
"""Default patterns of the names of environment variables whose values are secrets."""

_SHORTEST_SECRET = 6
"""Values of variables that are shorter are settings such as `1` or `debug`."""


def hide_secrets(text: str, values: Iterable[str | None]) -> str:
    """Replace secrets in a text, also where they are written as in JSON or in a URL.

    Args:
        text: text that a bot wrote.
        values: the secrets that the bot knows. None and short values are ignored.
    """
    secrets = {form for value in values for form in _list_forms(value or "") if len(form) >= _SHORTEST_SECRET}
    # Longest first, because one secret may contain another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def parse_environment(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of a container, given the engine's description of it."""
    variables = (container.get("Config") or {}).get("Env") or []
    return dict(variable.partition("=")[::2] for variable in variables)


def list_secret_values(environment: Mapping[str, str], patterns: Iterable[str]) -> list[str]:
    """List the values that environment variables keep secret.

    Args:
        environment: the variables of a container.
        patterns: names of variables with secrets; `*` stands for any characters, and capitals do not matter.

    Returns:
        The values of the variables whose name matches, and the passwords in all values that are URLs.
    """
    wanted = [pattern.upper() for pattern in patterns]
    named = (
        value for name, value in environment.items() if any(fnmatchcase(name.upper(), pattern) for pattern in wanted)
    )
    return [*named, *(password for value in environment.values() for password in _list_passwords(value))]


def _list_forms(value: str) -> Iterator[str]:
    """Yield the forms in which a program may write a secret. Of a secret with several lines it may write each one."""
    for line in (value, *value.splitlines()):
        text = line.strip()
        yield from (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text, safe=""))


def _list_passwords(value: str) -> Iterator[str]:
    try:
        password = urlsplit(value).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)

"""Hiding of secrets in the log lines of bots, before these are stored. Used by creations and updates of bots."""

from __future__ import annotations

from collections.abc import Iterable

_SHORTEST_SECRET = 6
"""Values of variables that are shorter are settings such as `1` or `debug`."""


def hide_secrets(text: str, values: Iterable[str | None]) -> str:
    """Replace secrets in a text.

    Args:
        text: text that a bot wrote.
        values: the secrets that the bot knows. None and short values are ignored.
    """
    secrets = {value for value in values if value and len(value) >= _SHORTEST_SECRET}
    # Longest first, because one secret may contain another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text

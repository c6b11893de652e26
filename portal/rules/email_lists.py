"""Split a pasted text into emails. Used by the form that invites several people."""

from __future__ import annotations

import re

from portal.rules import email_addresses

_PARTS = re.compile(r"[\r\n,;\t]+")
_WORDS = re.compile(r"[\s<>()\[\]{}\"'|]+")


def split_addresses(text: str) -> list[str]:
    """Return the emails of a text, in their order and each once, without checking them.

    Lines, commas, semicolons and tabs separate the parts of the text. A part such as `Ann Lee <ann@example.com>`
    contributes the words that look like emails. A part without such a word is returned whole, so that a typing error
    is reported and not lost.
    """
    found: dict[str, str] = {}
    for part in _PARTS.split(text):
        words = [word.removeprefix("mailto:").rstrip(".:") for word in _WORDS.split(part)]
        for address in [word for word in words if "@" in word] or [part.strip()]:
            if address:
                found.setdefault(email_addresses.normalize(address), address)
    return list(found.values())

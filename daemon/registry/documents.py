"""Parsing of JSON documents that a registry or an image sends. Used by the rest of this package."""

import json
from typing import Any


def parse_object(raw: bytes, encoding: str = "utf-8") -> dict[str, Any] | None:
    """Parse a JSON object. Its values may have any type, so check each before using it.

    Args:
        raw: the document.
        encoding: `utf-8`, or `utf-8-sig` to ignore a byte order mark.

    Returns:
        The object; None for anything else, such as invalid JSON or JSON that is nested too deeply.
    """
    try:
        document = json.loads(raw.decode(encoding))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None

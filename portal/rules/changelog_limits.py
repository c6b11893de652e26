"""Limits of a changelog. Used where changelogs are read from images and where Flotilla writes them.

A changelog fits on a page and into an email, and its version into the subject of an email.
"""

from __future__ import annotations

MAX_VERSION_LENGTH = 50
MAX_SECTIONS = 10
MAX_ITEMS = 100
"""Items in all sections together."""
MAX_ITEM_LENGTH = 500
MAX_CHARACTERS = 20_000
"""Characters of all items together."""

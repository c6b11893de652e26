"""Format of changelogs inside images: parse and validate. Used by the changelog reader and `flotilla upstream`."""

import re
from datetime import date
from typing import Any

from daemon.registry.documents import parse_object
from portal.rules.changelog_limits import (
    MAX_CHARACTERS,
    MAX_ITEM_LENGTH,
    MAX_ITEMS,
    MAX_SECTIONS,
    MAX_VERSION_LENGTH,
)
from portal.rules.outside_text import clean_line

MAX_CHANGELOG_BYTES = 256 * 1024
SECTION_TITLES = ("New", "Improved", "Fixed")

_DATE = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}")


class InvalidChangelog(ValueError):
    """The changelog violates the format. The message tells the image's author what is wrong."""


def parse_changelog(raw: bytes) -> dict[str, Any]:
    """Parse and validate a changelog.

    Returns:
        `{"version": str, "date": "YYYY-MM-DD", "sections": [{"title": str, "items": [str]}]}`. Unknown keys and
        sections without items are left out.

    Raises:
        InvalidChangelog: a part is missing, has the wrong type or exceeds its limit, or the changelog is longer than
            256 KB.
    """
    if len(raw) > MAX_CHANGELOG_BYTES:
        raise InvalidChangelog(f"The changelog is longer than {MAX_CHANGELOG_BYTES // 1024} KB.")
    document = parse_object(raw, "utf-8-sig")
    if document is None:
        raise InvalidChangelog("The changelog is not a JSON object in UTF-8.")
    return {
        "version": _parse_text(document.get("version"), "a version", MAX_VERSION_LENGTH),
        "date": _parse_date(document.get("date")),
        "sections": _parse_sections(document.get("sections")),
    }


def _parse_sections(sections: object) -> list[dict[str, Any]]:
    if not isinstance(sections, list):
        raise InvalidChangelog("The changelog needs a list of sections.")
    if len(sections) > MAX_SECTIONS:
        raise InvalidChangelog(f"The changelog has more than {MAX_SECTIONS} sections.")
    parsed = [section for section in map(_parse_section, sections) if section["items"]]
    items = [item for section in parsed for item in section["items"]]
    if len(items) > MAX_ITEMS:
        raise InvalidChangelog(f"The changelog has more than {MAX_ITEMS} items.")
    if sum(map(len, items)) > MAX_CHARACTERS:
        raise InvalidChangelog(f"The items of the changelog have more than {MAX_CHARACTERS} characters.")
    return parsed


def _parse_section(section: object) -> dict[str, Any]:
    if not isinstance(section, dict) or section.get("title") not in SECTION_TITLES:
        raise InvalidChangelog(f"Each section of the changelog needs a title: {', '.join(SECTION_TITLES)}.")
    items = section.get("items")
    if not isinstance(items, list):
        raise InvalidChangelog(f"The section {section['title']} of the changelog needs a list of items.")
    return {
        "title": section["title"],
        "items": [_parse_text(item, "items that are texts", MAX_ITEM_LENGTH) for item in items],
    }


def _parse_text(value: object, what: str, limit: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidChangelog(f"The changelog needs {what}.")
    text = " ".join(value.split())
    if len(text) > limit:
        raise InvalidChangelog(f"The changelog needs {what}, of at most {limit} characters each.")
    if clean_line(text, limit) != text:
        raise InvalidChangelog("The changelog contains control characters.")
    return text


def _parse_date(value: object) -> str:
    # A year with four digits from 2000 on, because `fromisoformat` also accepts other formats and the year 1.
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise InvalidChangelog("The changelog needs a date such as 2026-01-31.")
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise InvalidChangelog("The changelog needs a date such as 2026-01-31.") from error

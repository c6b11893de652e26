"""The user-facing changelog: New, Improved and Fixed, without excluded subjects. Used by `changelog_files`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from daemon.upstream.changelog.changes import Change
from daemon.upstream.changelog.exclusions import WordList, excluded_subjects
from daemon.upstream.changelog.vocabulary import Kind
from daemon.upstream.changelog.wording import plain_item, same_item, without_folders
from daemon.upstream.scan.hosted_mode import HostedModeContext
from portal.rules.changelog_limits import MAX_CHARACTERS, MAX_ITEM_LENGTH, MAX_ITEMS
from portal.rules.outside_text import clean_line

SECTIONS: dict[str, frozenset[Kind]] = {
    "New": frozenset({Kind.FEATURE}),
    "Improved": frozenset({Kind.IMPROVEMENT, Kind.OTHER}),
    "Fixed": frozenset({Kind.FIX}),
}
"""Sections in the order of the image contract, and the kinds of changes in them."""


@dataclass(frozen=True)
class ReleaseNotes:
    """Items by section, in the order of `SECTIONS`. Sections without items are left out."""

    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def document(self, version: str, date: str) -> dict[str, Any]:
        """Return the document of the image contract.

        Args:
            version: Name of the version.
            date: As ``YYYY-MM-DD``.
        """
        sections = [{"title": title, "items": list(items)} for title, items in self.sections]
        return {"version": version, "date": date, "sections": sections}


def write_release_notes(changes: Iterable[Change], context: HostedModeContext) -> ReleaseNotes:
    """Write what customers read about changes. A change about an excluded subject is left out silently.

    Args:
        changes: Upstream's and the fork's changes, oldest first.
        context: The fork's words.
    """
    excluded, internal = excluded_subjects(context), WordList(context.internal_words)
    items = [
        (section, item)
        for change in changes
        if (section := _section_of(change)) and (item := item_of(change, excluded, internal))
    ]
    return collect(items)


def collect(items: Iterable[tuple[str, str]]) -> ReleaseNotes:
    """Put items into their sections, each text once: in the first section that has it.

    Long items are cut, and the items beyond the limits of a changelog are left out, those of the last section first.
    """
    seen: set[str] = set()
    length = 0
    by_section: dict[str, list[str]] = {title: [] for title in SECTIONS}
    for title in SECTIONS:
        for section, item in items:
            key = same_item(item)
            text = clean_line(item, MAX_ITEM_LENGTH)
            if (
                section == title
                and key not in seen
                and len(seen) < MAX_ITEMS
                and length + len(text) <= MAX_CHARACTERS
            ):
                seen.add(key)
                length += len(text)
                by_section[title].append(text)
    return ReleaseNotes(tuple((title, tuple(texts)) for title, texts in by_section.items() if texts))


def item_of(change: Change, excluded: WordList, internal: WordList) -> str | None:
    """Return the line for one change, or None if customers do not read about it."""
    commit = change.commit
    if change.reverted_by is not None or commit.reverts is not None:
        return None
    if excluded.found_in(f"{commit.scope} {commit.text}"):
        return None
    if internal.found_in(f"{commit.scope} {without_folders(commit.text)}"):
        return None
    item = plain_item(commit.text, change.kind)
    if item is None or excluded.found_in(item) or internal.found_in(item):
        return None
    return item


def _section_of(change: Change) -> str | None:
    return next((title for title, kinds in SECTIONS.items() if change.kind in kinds), None)

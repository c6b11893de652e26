"""Lines of a log on a page and in a text file."""

from __future__ import annotations

from typing import Any

from portal.rules import log_text

AT = "2026-11-30T12:00:00.123456789Z"


def test_latest_matching_lines_are_selected_ignoring_case() -> None:
    lines = [[AT, False, f"Request {number}"] for number in range(1000)] + [[None, True, "failed"]]
    found = log_text.select(lines, "REQUEST")
    assert (found.matches, len(found.lines), found.lines[-1][2]) == (1000, log_text.MAX_LINES, "Request 999")
    assert log_text.select(lines, "").matches == 1001


def test_long_lines_do_not_make_a_page_long() -> None:
    lines = [[None, False, "x" * 100_000] for _ in range(300)]
    found = log_text.select(lines, "")
    assert found.matches == 300
    assert sum(len(line[2]) for line in found.lines) <= log_text.MAX_CHARACTERS
    assert found.lines[0][2].endswith("…")


def test_file_has_the_moment_of_each_line_where_it_is_known() -> None:
    lines: list[list[Any]] = [[AT, False, "one"], [None, True, "two"], ["2026-11-30T12:00:00Z", False, "three"]]
    assert log_text.format_lines(lines) == "2026-11-30T12:00:00.123Z one\ntwo\n2026-11-30T12:00:00Z three\n"

"""`flotilla alerts`: channels by command, without secrets in arguments or output."""

from __future__ import annotations

import re
from pathlib import Path

from tests.daemon.conftest import Flotilla


def test_channel_is_added_listed_tested_and_deleted(flotilla: Flotilla, tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_text("https://chat.example/very-secret\n")

    added = flotilla("alerts", "add", "Operations", "--format", "json", "--url-file", str(url))
    listed = flotilla("alerts", "list")
    tested = flotilla("alerts", "test", "Operations")
    again = flotilla("alerts", "test", "Operations")
    deleted = flotilla("alerts", "delete", "Operations")

    assert added.stdout.startswith("whsec_")
    assert "chat.example" in listed.output
    assert "very-secret" not in added.output + listed.output
    assert [result.exit_code for result in (added, listed, tested, again, deleted)] == [0, 0, 0, 1, 0]
    assert "waits already" in again.output


def test_url_comes_from_standard_input_and_events_are_checked(flotilla: Flotilla) -> None:
    arguments = ("alerts", "add", "Chat", "--format", "slack", "--url-file", "-", "--event")
    refused = flotilla(*arguments, "user.signed_in", stdin="https://chat.example/x")
    added = flotilla(*arguments, "node.offline", stdin="https://chat.example/x")

    assert refused.exit_code != 0
    assert "no alerts about user.signed_in" in refused.output
    assert added.exit_code == 0
    assert re.search(r"node\.offline +\*", flotilla("alerts", "events").output)


def test_missing_file_and_unknown_channel_are_told(flotilla: Flotilla, tmp_path: Path) -> None:
    missing = flotilla("alerts", "add", "Chat", "--format", "slack", "--url-file", str(tmp_path / "missing"))
    assert "cannot be read: No such file" in missing.output
    unknown = flotilla("alerts", "delete", "Chat")
    assert unknown.exit_code != 0
    assert "no alert channel named Chat" in unknown.output

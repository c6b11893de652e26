"""The demo's fork: an upstream commit, a sync, a merge, and the source of the image."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from daemon.upstream.report import Outcome
from daemon.upstream.sync import Mode, SyncOptions, sync
from demo.fork import DemoFork
from demo.processes import DemoError


def read_source(fork: DemoFork) -> dict[str, str]:
    """Return the files of the image's source; links are their targets."""
    with tarfile.open(fileobj=fork.archive()) as archive:
        return {
            member.name: member.linkname
            if member.issym()
            else (archive.extractfile(member) or _none()).read().decode()
            for member in archive
            if member.isfile() or member.issym()
        }


def _none() -> tarfile.ExFileObject:
    raise AssertionError


def test_changes_of_upstream_are_in_the_image_with_their_changelog(tmp_path: Path) -> None:
    fork = DemoFork(tmp_path / "fork")
    fork.create()
    fork.create()
    for number in (1, 2):
        fork.change_upstream(f"2.{number}.0", f"feat: add theme number {number} to the notes (#{number})")
        assert sync(fork.checkout, SyncOptions(Mode.PUSH)).outcome is Outcome.SYNCED
        fork.merge()
        source = read_source(fork)
        assert json.loads(source["app/behaviour.json"])["version"] == f"2.{number}.0"
        changelog = json.loads(source[f"changelogs/user-facing/{source['changelogs/user-facing/latest.json']}"])
        assert changelog["sections"] == [{"title": "New", "items": [f"Theme number {number} for the notes"]}]
        assert "COPY changelogs/user-facing/ /app/changelogs/" in source["Dockerfile"]


def test_merging_without_a_pull_request_fails(tmp_path: Path) -> None:
    fork = DemoFork(tmp_path / "fork")
    fork.create()
    with pytest.raises(DemoError, match="rev-parse failed"):
        fork.merge()

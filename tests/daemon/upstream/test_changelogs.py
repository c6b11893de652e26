"""The changelog files: the internal Markdown, versions, the rewriter, and `changelog_only`."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path

import pytest

from daemon.registry.changelog_format import parse_changelog
from daemon.upstream.changelog.changelog_files import next_version
from daemon.upstream.changelog.release_notes import ReleaseNotes
from daemon.upstream.changelog.rewriter import RewriterFailed, rewrite
from daemon.upstream.errors import SyncRefused
from daemon.upstream.scan.hosted_mode import HostedModeContext, default_text, load
from daemon.upstream.sync import Mode, SyncOptions, changelog_only, sync
from tests.daemon.upstream.repos import World

TODAY = date(2026, 3, 14)
NOTES = ReleaseNotes((("New", ("Dark theme",)), ("Fixed", ("Crash on logout",))))


def internal_changelog(world: World) -> str:
    """Sync and return the internal changelog."""
    report = sync(world.fork.path, SyncOptions(today=TODAY))
    return world.fork.read(f"changelogs/internal/{report.version}.md")


def test_the_internal_changelog_contains_everything(world: World) -> None:
    upstream = world.upstream
    upstream.commit(
        "feat(adapters)!: new options (#12)\n\nBREAKING CHANGE: old options are gone\n\nCo-authored-by: Zoë Z <z@z>"
    )
    upstream.commit("fix: crash on logout")
    upstream.commit("chore(deps): bump react from 18.2.0 to 18.3.1")
    upstream.commit("docs: explain <goals> & [links](x) `code`")
    upstream.commit("refactor: split store")
    upstream.commit("ci: cache")
    upstream.commit("something else entirely")
    reverted = upstream.commit("feat: mistake")
    upstream.commit(f'Revert "feat: mistake"\n\nThis reverts commit {reverted}.')
    upstream.git("checkout", "--quiet", "-b", "topic")
    upstream.commit("wip on topic", {"topic.txt": "x"})
    upstream.git("checkout", "--quiet", "main")
    upstream.git(
        "merge", "--quiet", "--no-ff", "-m", "Merge pull request #40 from x/topic\n\nfeat: topic page", "topic"
    )
    upstream.commit("feat: form", {"ui/src/Form.tsx": "adapterType\n"})
    text = internal_changelog(world)
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Breaking changes",
        "Features",
        "Fixes",
        "Dependencies",
        "Refactoring",
        "Documentation",
        "Tests, build and maintenance",
        "Other changes",
        "Reverted",
        "Our commits, re-applied",
        "New findings of the scan",
    ]
    assert "- **adapters**: new options (Uma Upstream with Zoë Z, `" in text
    assert "#12). old options are gone" in text
    assert "- topic page (Uma Upstream, `" in text
    assert "  - wip on topic (Uma Upstream, `" in text
    assert "explain \\<goals\\> & \\[links\\](x) \\`code\\`" in text
    assert f"- mistake (Uma Upstream, `{reverted[:9]}`), reverted by `" in text
    assert text.count("mistake") == 2
    assert "- feat: add hosted mode (Frida Fork, `" in text
    assert "- `ui/src/Form.tsx`: `adapterType` in line 1. Suggestion:" in text


def test_guards_that_were_added_are_listed(world: World) -> None:
    world.upstream.commit("feat: form", {"ui/src/Form.tsx": "adapterType\n"})
    sync(world.fork.path, SyncOptions(today=TODAY))
    world.fork.commit("feat: guard the form", {"ui/src/Form.tsx": "if (isHosted) return null;\nadapterType\n"})
    world.fork.git("push", "--quiet", "--force", "origin", "main")
    world.upstream.commit("feat: other")
    text = internal_changelog(world)
    assert "## Guards added\n\n- `ui/src/Form.tsx`: `adapterType`" in text
    assert "## New in the fork\n\n- guard the form" in text


def test_the_user_facing_file_passes_the_check_of_the_image(world: World) -> None:
    world.upstream.commit("feat: dark theme")
    world.upstream.commit("fix: “curly” crash on logout — überall")
    sync(world.fork.path, SyncOptions(today=TODAY))
    raw = (world.fork.path / "changelogs/user-facing/latest.json").read_bytes()
    assert parse_changelog(raw) == json.loads(raw)


def test_changes_that_customers_do_not_see_give_an_empty_changelog(world: World) -> None:
    world.upstream.commit("fix(cli): exit code")
    sync(world.fork.path, SyncOptions(today=TODAY))
    raw = (world.fork.path / "changelogs/user-facing/latest.json").read_bytes()
    assert parse_changelog(raw) == {"version": "2026-03-14", "date": "2026-03-14", "sections": []}


def test_two_syncs_of_the_same_commits_write_the_same_files(world: World) -> None:
    for subject in ("feat: dark theme", "fix: crash on logout", "feat: form"):
        world.upstream.commit(subject, {"ui/src/Form.tsx": f"adapterType // {subject}\n"})
    start = world.fork.head
    sync(world.fork.path, SyncOptions(today=TODAY))
    first = world.fork.git("rev-parse", "HEAD:changelogs")
    world.fork.git("reset", "--hard", "--quiet", start)
    (world.fork.path / ".git/flotilla/last-sync.json").unlink()
    sync(world.fork.path, SyncOptions(today=TODAY))
    assert world.fork.git("rev-parse", "HEAD:changelogs") == first


@pytest.mark.parametrize(
    ("taken", "version"),
    [
        (set(), "2026-03-14"),
        ({"2026-03-13"}, "2026-03-14"),
        ({"2026-03-14"}, "2026-03-14-2"),
        ({"2026-03-14", "2026-03-14-2"}, "2026-03-14-3"),
    ],
)
def test_versions_are_dates_with_a_number_from_the_second_on(taken: set[str], version: str) -> None:
    assert next_version(TODAY, taken) == version


def test_a_changelog_since_a_commit_is_written_without_a_commit(world: World) -> None:
    start = world.fork.head
    world.fork.commit("feat: weekly summary emails")
    world.fork.commit("fix: crash on logout")
    head = world.fork.head
    written = changelog_only(world.fork.path, SyncOptions(today=TODAY), start)
    assert written.notes.sections == (("New", ("Weekly summary emails",)), ("Fixed", ("Crash on logout",)))
    assert json.loads(world.fork.read("changelogs/user-facing/latest.json"))["version"] == "2026-03-14"
    assert (world.fork.path / "changelogs/user-facing/latest.json").is_symlink()
    assert world.fork.head == head
    second = changelog_only(world.fork.path, SyncOptions(today=TODAY), start)
    assert second.version == "2026-03-14-2"


def test_a_changelog_begins_after_the_last_sync(world: World) -> None:
    with pytest.raises(SyncRefused, match="--since"):
        changelog_only(world.fork.path, SyncOptions(today=TODAY), None)
    world.upstream.commit("feat: dark theme")
    sync(world.fork.path, SyncOptions(today=TODAY))
    with pytest.raises(SyncRefused, match="no commits since"):
        changelog_only(world.fork.path, SyncOptions(today=TODAY), None)
    world.fork.commit("feat: weekly summary emails")
    written = changelog_only(world.fork.path, SyncOptions(today=TODAY), None)
    assert written.notes.sections == (("New", ("Weekly summary emails",)),)


@pytest.mark.parametrize("squash", [False, True], ids=["merge commit", "squash"])
def test_a_merged_sync_is_not_in_the_next_changelog(world: World, squash: bool) -> None:
    world.upstream.commit("feat: dark theme")
    sync(world.fork.path, SyncOptions(Mode.PUSH, today=TODAY))
    world.merge_proposal(squash=squash)
    world.fork.git("fetch", "--quiet", "origin")
    world.fork.git("reset", "--hard", "--quiet", "origin/main")
    with pytest.raises(SyncRefused, match="no commits since"):
        changelog_only(world.fork.path, SyncOptions(today=TODAY), None)
    world.fork.git("checkout", "--quiet", "-b", "topic")
    world.fork.commit("wip", {"topic.txt": "x"})
    world.fork.git("checkout", "--quiet", "main")
    merge = "Merge pull request #9 from x/topic\n\nfeat: weekly summary emails"
    world.fork.git("merge", "--quiet", "--no-ff", "-m", merge, "topic")
    written = changelog_only(world.fork.path, SyncOptions(today=TODAY), None)
    assert written.notes.sections == (("New", ("Weekly summary emails",)),)
    assert "dark theme" not in written.internal


def test_a_changelog_since_an_unknown_commit_is_refused(world: World) -> None:
    for since in ("nonsense", "--output=x", ""):
        with pytest.raises(SyncRefused):
            changelog_only(world.fork.path, SyncOptions(today=TODAY), since)


def test_a_changelog_does_not_follow_a_link_out_of_the_fork(world: World, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (world.fork.path / "changelogs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SyncRefused, match="not a folder"):
        changelog_only(world.fork.path, SyncOptions(today=TODAY), "HEAD~1")


def rewriter(tmp_path: Path, code: str) -> tuple[str, ...]:
    """A rewriter that runs Python code with the question in `question`."""
    script = tmp_path / "rewriter.py"
    script.write_text(f"import json, sys, time\nquestion = json.load(sys.stdin)\n{code}\n")
    return (sys.executable, str(script))


def test_a_rewriter_polishes_the_text(tmp_path: Path) -> None:
    command = rewriter(
        tmp_path,
        "for section in question['sections']:\n"
        "    section['items'] = [item + ', at last' for item in section['items']]\n"
        "print(json.dumps(question))",
    )
    rewritten = rewrite(NOTES, command, load(None))
    assert rewritten.sections == (("New", ("Dark theme, at last",)), ("Fixed", ("Crash on logout, at last",)))


def test_what_a_rewriter_says_about_excluded_subjects_is_left_out(tmp_path: Path) -> None:
    answer = {"sections": [{"title": "New", "items": ["Dark theme", "More Models", "A docker image", "Dark  theme"]}]}
    rewritten = rewrite(NOTES, rewriter(tmp_path, f"print({json.dumps(json.dumps(answer))})"), load(None))
    assert rewritten.sections == (("New", ("Dark theme",)),)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("print('Here is your JSON')", "not JSON"),
        ("print('[]')", "not JSON such as"),
        ("print('[' * 100000)", "not JSON"),
        ('print(\'{"sections": [{"title": "Security", "items": ["x"]}]}\')', "section that is not one of"),
        ('print(\'{"sections": [{"title": "New", "items": [7]}]}\')', "not one line"),
        ("print(json.dumps({'sections': [{'title': 'New', 'items': ['a\\nb']}]}))", "not one line"),
        ("print('x' * 300000)", "longer than"),
        ("time.sleep(60)", "did not answer"),
    ],
)
def test_a_bad_answer_of_a_rewriter_is_reported(tmp_path: Path, code: str, words: str) -> None:
    with pytest.raises(RewriterFailed, match=words):
        rewrite(NOTES, rewriter(tmp_path, code), load(None), timeout_seconds=0.5 if "sleep" in code else 60)


def test_a_rewriter_that_fails_does_not_stop_the_sync(world: World) -> None:
    world.upstream.commit("feat: dark theme")
    report = sync(world.fork.path, SyncOptions(rewriter=("/nonexistent/rewriter",), today=TODAY))
    assert any("rewriter could not be started" in warning for warning in report.warnings)
    assert "Dark theme" in world.fork.read("changelogs/user-facing/latest.json")


def test_the_written_settings_are_the_defaults() -> None:
    assert load(default_text().encode()) == load(None)
    assert isinstance(load(b"\xef\xbb\xbf[scan]\nfolders = ['x']"), HostedModeContext)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[scan", "not valid TOML"),
        ("[scn]\nx = 1", "unknown table: scn"),
        ("[scan]\nfolder = ['ui']", r"unknown key: scan\.folder"),
        ("[scan]\nfolders = 'ui'", r"scan\.folders must be a list of texts"),
        ("[scan]\nguards = [1]", "must contain texts"),
        ("[scan]\nguards = ['']", "empty text"),
        ("[scan]\naliases = ['a']", "must be a table of texts"),
        ("[repository]\nupstream_branch = 3", "must be a text"),
        ("scan = 3", "scan must be a table"),
    ],
)
def test_damaged_settings_are_told(text: str, words: str) -> None:
    with pytest.raises(SyncRefused, match=words):
        load(text.encode())

"""Syncing a fork: what moves, what stays, and what the report says."""

from __future__ import annotations

import json
import subprocess
from datetime import date
from pathlib import Path

import pytest

from daemon.upstream.errors import ExitCode, GitFailed, SyncRefused
from daemon.upstream.report import Outcome, SyncReport
from daemon.upstream.repository.git import open_repository
from daemon.upstream.repository.lock import locked
from daemon.upstream.sync import Mode, SyncOptions, sync
from portal.rules.changelog_limits import MAX_ITEMS
from tests.daemon.upstream.repos import Repo, World, clone, new_repo

TODAY = date(2026, 3, 14)


def run(repo: Repo, mode: Mode = Mode.LOCAL) -> SyncReport:
    """Sync a checkout."""
    return sync(repo.path, SyncOptions(mode, today=TODAY))


def assert_refused(repo: Repo, words: str, mode: Mode = Mode.LOCAL) -> None:
    """Check that a sync is refused and changes nothing."""
    before = repo.snapshot()
    with pytest.raises((SyncRefused, GitFailed), match=words) as caught:
        run(repo, mode)
    assert caught.value.exit_code is ExitCode.REFUSED
    assert repo.snapshot() == before


def test_own_commits_are_replayed_on_upstream(world: World) -> None:
    old = world.fork.head
    new_upstream = world.upstream.commit("feat: add dark theme", {"ui/src/theme.ts": "export {};\n"})
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert report.exit_code is ExitCode.DONE
    assert world.fork.log(f"{new_upstream}..main") == [
        "Sync with upstream 2026-03-14",
        "docs: describe the fork",
        "feat: add hosted mode",
    ]
    assert world.fork.git("log", "--format=%an", "-3", "main~1").splitlines()[:2] == ["Frida Fork", "Frida Fork"]
    assert world.fork.rev("flotilla/backup/main-2026-03-14") == old
    assert report.backup == "flotilla/backup/main-2026-03-14"
    assert world.fork.git("status", "--porcelain") == ""
    assert json.loads(world.fork.read("changelogs/user-facing/latest.json")) == {
        "version": "2026-03-14",
        "date": "2026-03-14",
        "sections": [{"title": "New", "items": ["Dark theme"]}],
    }
    assert (world.fork.path / "changelogs/user-facing/latest.json").readlink() == Path("2026-03-14.json")


def test_a_fork_without_own_commits_is_fast_forwarded(tmp_path: Path) -> None:
    upstream = new_repo(tmp_path / "upstream")
    upstream.commit("Initial commit", {"a": "1"})
    fork = clone(upstream.path, tmp_path / "fork", "Frida Fork", "--origin", "upstream")
    new_upstream = upstream.commit("feat: add dark theme", {"a": "2"})
    report = run(fork)
    assert report.outcome is Outcome.SYNCED
    assert report.backup is None
    assert fork.log(f"{new_upstream}..main") == ["Sync with upstream 2026-03-14"]
    assert fork.read("a") == "2"


def test_nothing_new_changes_nothing_and_still_scans(world: World) -> None:
    world.fork.commit("feat: settings", {"ui/src/Settings.tsx": "export const x = adapterType;\n"})
    before = world.fork.snapshot()
    report = run(world.fork)
    assert report.outcome is Outcome.UP_TO_DATE
    assert [finding.word for finding in report.scan.new] == ["adapterType"]
    assert report.exit_code is ExitCode.FINDINGS
    assert world.fork.snapshot() == before


def test_a_second_sync_on_the_same_day_starts_from_what_is_published(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    run(world.fork)
    world.upstream.commit("fix: crash on logout", {"b": "1"})
    run(world.fork)
    changelog = json.loads(world.fork.read("changelogs/user-facing/latest.json"))
    assert changelog["version"] == "2026-03-14"
    assert changelog["sections"] == [
        {"title": "New", "items": ["Dark theme"]},
        {"title": "Fixed", "items": ["Crash on logout"]},
    ]
    assert world.fork.log("upstream/main..main").count("Sync with upstream 2026-03-14") == 1


def test_a_second_published_sync_on_the_same_day_is_numbered(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    run(world.fork, Mode.PUSH)
    world.merge_proposal()
    world.upstream.commit("fix: crash on logout", {"b": "1"})
    report = run(world.fork)
    assert report.version == "2026-03-14-2"
    changelog = json.loads(world.fork.read("changelogs/user-facing/latest.json"))
    assert (changelog["version"], changelog["date"]) == ("2026-03-14-2", "2026-03-14")
    assert changelog["sections"] == [{"title": "Fixed", "items": ["Crash on logout"]}]
    assert (world.fork.path / "changelogs/user-facing/2026-03-14.json").is_file()


def test_a_dry_run_changes_no_branch_and_no_file(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"ui/src/a.tsx": "adapterType\n"})
    before = world.fork.snapshot()
    report = run(world.fork, Mode.DRY_RUN)
    assert report.outcome is Outcome.SYNCED
    assert report.dry_run
    assert report.exit_code is ExitCode.FINDINGS
    assert world.fork.snapshot() == before


def test_a_conflict_changes_nothing_and_names_both_sides(world: World) -> None:
    ours = world.fork.commit("feat: own greeting", {"ui/src/App.tsx": "export const App = () => 'ours';\n"})
    world.fork.commit("docs: later", {"LATER.md": "x"})
    theirs = world.upstream.commit("feat: new greeting", {"ui/src/App.tsx": "export const App = () => 'theirs';\n"})
    world.fork.write("notes.txt", "kept")
    world.fork.git("stash", "push", "--include-untracked")
    world.fork.write("untracked.txt", "kept")
    before = world.fork.snapshot()
    report = run(world.fork)
    assert report.outcome is Outcome.CONFLICT
    assert report.exit_code is ExitCode.CONFLICT
    assert world.fork.snapshot() == before
    assert report.conflict is not None
    assert report.conflict.remaining == 1
    (file,) = report.conflict.files
    assert (file.path, file.kind) == ("ui/src/App.tsx", "changed on both sides")
    assert (report.conflict.commit.id, report.conflict.commit.author) == (ours, "Frida Fork")
    assert [(commit.id, commit.author) for commit in file.upstream] == [(theirs, "Uma Upstream")]
    words = "\n".join(report.lines())
    assert ours[:12] in words
    assert theirs[:12] in words
    assert "Nothing was changed" in words


@pytest.mark.parametrize(
    ("upstream", "fork", "kind"),
    [
        ({"server/index.js": None}, {"server/index.js": "ours();\n"}, "deleted by upstream, changed by the fork"),
        ({"server/index.js": "theirs();\n"}, {"server/index.js": None}, "changed by upstream, deleted by the fork"),
        ({"logo.png": b"\x89PNG\0theirs"}, {"logo.png": b"\x89PNG\0ours"}, "added on both sides"),
    ],
)
def test_conflicts_of_every_kind_are_reported(
    world: World, upstream: dict[str, str | bytes | None], fork: dict[str, str | bytes | None], kind: str
) -> None:
    world.fork.commit("feat: ours", fork)
    world.upstream.commit("feat: theirs", upstream)
    before = world.fork.snapshot()
    report = run(world.fork)
    assert report.conflict is not None
    assert [file.kind for file in report.conflict.files] == [kind]
    assert world.fork.snapshot() == before


def test_a_conflict_resolved_by_hand_is_synced_afterwards(world: World) -> None:
    world.fork.commit("feat: own greeting", {"ui/src/App.tsx": "ours\n"})
    world.fork.git("push", "--quiet", "origin", "main")
    world.upstream.commit("feat: new greeting", {"ui/src/App.tsx": "theirs\n"})
    assert run(world.fork).outcome is Outcome.CONFLICT
    world.fork.git("rebase", "upstream/main", check=False)
    world.fork.write("ui/src/App.tsx", "both\n")
    world.fork.git("add", "--all")
    world.fork.git("-c", "core.editor=true", "rebase", "--continue")
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert world.fork.read("ui/src/App.tsx") == "both\n"
    assert "new greeting" in world.fork.read("changelogs/internal/2026-03-14.md")
    assert world.fork.log("upstream/main..main")[0] == "Sync with upstream 2026-03-14"


def test_a_recorded_resolution_is_used(world: World) -> None:
    world.fork.git("config", "rerere.enabled", "true")
    world.fork.commit("feat: own greeting", {"ui/src/App.tsx": "ours\n"})
    world.upstream.commit("feat: new greeting", {"ui/src/App.tsx": "theirs\n"})
    world.fork.git("fetch", "--quiet", "upstream")
    start = world.fork.head
    world.fork.git("rebase", "upstream/main", check=False)
    world.fork.write("ui/src/App.tsx", "both\n")
    world.fork.git("add", "--all")
    world.fork.git("-c", "core.editor=true", "rebase", "--continue")
    world.fork.git("reset", "--hard", "--quiet", start)
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert world.fork.read("ui/src/App.tsx") == "both\n"
    assert "Conflicts resolved with recorded resolutions" in world.fork.read("changelogs/internal/2026-03-14.md")


def test_an_own_commit_that_upstream_took_is_dropped(world: World) -> None:
    world.fork.commit("fix: typo in server", {"server/index.js": "start(1);\n"})
    world.upstream.commit("fix: start with one", {"server/index.js": "start(1);\n"})
    world.upstream.commit("chore: later", {"server/index.js": "start(2);\n"})
    assert run(world.fork).outcome is Outcome.SYNCED
    assert world.fork.read("server/index.js") == "start(2);\n"
    assert "fix: typo in server" not in world.fork.log("upstream/main..main")


@pytest.mark.parametrize("staged", [True, False])
def test_uncommitted_changes_are_refused(world: World, staged: bool) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    world.fork.write("FORK.md", "changed")
    if staged:
        world.fork.git("add", "--all")
    assert_refused(world.fork, "uncommitted changes: FORK.md")


def test_untracked_files_are_allowed_and_kept(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    world.fork.write("notes.txt", "mine")
    assert run(world.fork).outcome is Outcome.SYNCED
    assert world.fork.read("notes.txt") == "mine"


@pytest.mark.parametrize("ignored", [True, False])
def test_a_local_file_where_upstream_adds_one_is_not_overwritten(world: World, ignored: bool) -> None:
    world.upstream.commit("feat: settings", {"local.env": "theirs"})
    if ignored:
        world.fork.write(".git/info/exclude", "local.env\n")
    world.fork.write("local.env", "mine")
    before = world.fork.snapshot()
    with pytest.raises(SyncRefused, match=r"in the way.*local\.env"):
        run(world.fork)
    after = world.fork.snapshot()
    after["branches"] = "\n".join(line for line in after["branches"].splitlines() if "backup" not in line)
    assert after == before


def test_a_detached_head_is_refused(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    world.fork.git("checkout", "--quiet", "--detach")
    assert_refused(world.fork, "detached")


def test_a_missing_upstream_is_refused(world: World) -> None:
    world.fork.git("remote", "remove", "upstream")
    assert_refused(world.fork, "git remote add upstream")


def test_a_missing_origin_is_refused_only_for_pushing(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    world.fork.git("remote", "remove", "origin")
    assert_refused(world.fork, "git remote add origin", Mode.PUSH)
    assert run(world.fork).outcome is Outcome.SYNCED


def test_an_unreachable_upstream_is_refused(world: World) -> None:
    world.fork.git("remote", "set-url", "upstream", "https://user:hunter2@127.0.0.1:1/bot.git")
    assert_refused(world.fork, "failed")
    with pytest.raises(GitFailed) as caught:
        run(world.fork)
    assert "hunter2" not in str(caught.value)


def test_an_unfinished_merge_is_refused(world: World) -> None:
    world.fork.git("checkout", "--quiet", "-b", "other", "HEAD~1")
    world.fork.commit("feat: other", {"FORK.md": "other"})
    world.fork.git("checkout", "--quiet", "main")
    world.fork.git("merge", "other", check=False)
    assert_refused(world.fork, "middle of a merge")


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SyncRefused, match="not a git working tree"):
        sync(tmp_path, SyncOptions())
    with pytest.raises(SyncRefused, match="not a folder"):
        sync(tmp_path / "missing", SyncOptions())


def test_unrelated_histories_are_refused(world: World, tmp_path: Path) -> None:
    stranger = new_repo(tmp_path / "stranger")
    stranger.commit("Initial commit", {"x": "1"})
    world.fork.git("remote", "set-url", "upstream", str(stranger.path))
    assert_refused(world.fork, "no common history")


def test_a_second_process_is_refused(world: World) -> None:
    git = open_repository(world.fork.path)
    with locked(git), pytest.raises(SyncRefused, match="Another sync"), locked(git, patience_seconds=0):
        pass


def test_a_diverged_origin_is_refused(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    colleague = world.second_clone()
    colleague.commit("feat: colleague", {"c": "1"})
    colleague.git("push", "--quiet", "origin", "main")
    world.fork.commit("feat: local", {"d": "1"})
    assert_refused(world.fork, "have diverged")


def test_a_checkout_behind_origin_is_brought_up_to_date(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    colleague = world.second_clone()
    colleague.commit("feat: colleague", {"c": "1"})
    colleague.git("push", "--quiet", "origin", "main")
    assert run(world.fork).outcome is Outcome.SYNCED
    assert "feat: colleague" in world.fork.log("upstream/main..main")


def test_local_commits_that_are_not_pushed_are_kept(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    run(world.fork)
    world.fork.commit("feat: local", {"d": "1"})
    world.upstream.commit("feat: add light theme", {"b": "1"})
    assert run(world.fork).outcome is Outcome.SYNCED
    assert world.fork.log("upstream/main..main") == [
        "Sync with upstream 2026-03-14-2",
        "feat: local",
        "Sync with upstream 2026-03-14",
        "docs: describe the fork",
        "feat: add hosted mode",
    ]


def test_upstream_history_that_was_rewritten_is_noticed(world: World) -> None:
    world.upstream.commit("feat: mistake", {"mistake.txt": "x"})
    run(world.fork, Mode.PUSH)
    world.merge_proposal()
    world.upstream.git("reset", "--hard", "--quiet", "HEAD~1")
    world.upstream.commit("feat: better idea", {"better.txt": "x"})
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert any("rewrote its history and removed 1 commit" in warning for warning in report.warnings)
    assert not (world.fork.path / "mistake.txt").exists()
    assert world.fork.log("upstream/main..main")[-2:] == ["docs: describe the fork", "feat: add hosted mode"]
    internal = world.fork.read(f"changelogs/internal/{report.version}.md")
    assert "Removed: feat: mistake" in internal
    assert "better idea" in internal


def test_a_shallow_clone_is_deepened(world: World, tmp_path: Path) -> None:
    for number in range(5):
        world.upstream.commit(f"feat: number {number}", {"n": str(number)})
    shallow = Repo(tmp_path / "shallow", "Frida Fork")
    world.fork.git("clone", "--quiet", "--depth=1", f"file://{world.origin.path}", str(shallow.path))
    shallow.git("remote", "add", "upstream", f"file://{world.upstream.path}")
    assert shallow.git("rev-parse", "--is-shallow-repository") == "true"
    assert run(shallow).outcome is Outcome.SYNCED
    assert shallow.log("upstream/main..main")[1:] == ["docs: describe the fork", "feat: add hosted mode"]
    shallow.git("fsck", "--connectivity-only")


def test_binary_files_line_endings_and_unusual_names_survive(world: World) -> None:
    name = b"caf\xe9-\xff.txt".decode(errors="surrogateescape")
    ours: dict[str, str | bytes | None] = {
        "bild ä.bin": bytes(range(256)),
        "windows.txt": b"one\r\ntwo\r\n",
        "tab\tand\nnewline.txt": "x",
        name: "latin",
    }
    world.fork.commit("feat: files", ours)
    world.upstream.commit("feat: rename", {"README.md": None, "LIESMICH ü.md": "# Bot\n", "crlf.txt": b"a\r\nb\r\n"})
    assert run(world.fork).outcome is Outcome.SYNCED
    for path, content in ours.items():
        assert (world.fork.path / path).read_bytes() == (
            content if isinstance(content, bytes) else str(content).encode()
        )
    assert (world.fork.path / "crlf.txt").read_bytes() == b"a\r\nb\r\n"
    assert world.fork.git("status", "--porcelain") == ""


def test_own_changes_follow_a_file_that_upstream_renamed(world: World) -> None:
    text = "".join(f"line {number}\n" for number in range(30))
    world.upstream.commit("feat: text", {"text.txt": text})
    run(world.fork, Mode.PUSH)
    world.merge_proposal()
    run(world.fork)
    world.fork.commit("feat: own line", {"text.txt": text.replace("line 7\n", "ours\n")})
    world.upstream.git("mv", "text.txt", "renamed.txt")
    world.upstream.commit("refactor: rename")
    assert run(world.fork).outcome is Outcome.SYNCED
    assert "ours\n" in world.fork.read("renamed.txt")


def test_hundreds_of_commits_and_merges_are_synced(world: World) -> None:
    for number in range(120):
        world.fork.commit(f"feat: own {number}", {f"own/{number % 7}.txt": f"{number}\n"})
    world.fork.git("push", "--quiet", "origin", "main")
    for number in range(100):
        world.upstream.commit(
            f"feat: add report number {number} to board", {f"their/{number % 5}.txt": f"{number}\n"}
        )
        if number % 25 == 0:
            world.upstream.git("checkout", "--quiet", "-b", f"topic-{number}")
            world.upstream.commit("wip", {f"topic/{number}.txt": "x"})
            world.upstream.git("checkout", "--quiet", "main")
            message = f"Merge pull request #{number} from x/y\n\nfeat: topic {number} page"
            world.upstream.git("merge", "--no-ff", "--quiet", "-m", message, f"topic-{number}")
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert report.changes == 104
    assert len(world.fork.log("upstream/main..main")) == 123
    items = json.loads(world.fork.read("changelogs/user-facing/latest.json"))["sections"][0]["items"]
    assert "Topic 75 page" in items
    assert "Report number 0 for the board" in items
    assert len(items) == MAX_ITEMS  # the limit of the contract for one image


def test_a_merge_of_the_fork_that_resolved_a_conflict_is_a_conflict(world: World) -> None:
    world.fork.git("checkout", "--quiet", "-b", "topic")
    world.fork.commit("feat: topic", {"FORK.md": "topic\n"})
    world.fork.git("checkout", "--quiet", "main")
    world.fork.commit("feat: main", {"FORK.md": "main\n"})
    world.fork.git("merge", "topic", check=False)
    world.fork.write("FORK.md", "both\n")
    world.fork.write("evil.txt", "only in the merge\n")
    world.fork.git("add", "--all")
    world.fork.git("commit", "--quiet", "--message", "Merge topic")
    world.fork.git("push", "--quiet", "origin", "main")
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    before = world.fork.snapshot()
    assert run(world.fork).outcome is Outcome.CONFLICT
    assert world.fork.snapshot() == before


def test_changes_that_only_a_merge_made_are_not_lost(world: World) -> None:
    world.fork.git("checkout", "--quiet", "-b", "topic")
    world.fork.commit("feat: topic", {"topic.txt": "topic\n"})
    world.fork.git("checkout", "--quiet", "main")
    world.fork.commit("feat: main", {"main.txt": "main\n"})
    world.fork.git("merge", "--no-ff", "--no-commit", "topic")
    world.fork.write("evil.txt", "only in the merge\n")
    world.fork.git("add", "--all")
    world.fork.git("commit", "--quiet", "--message", "Merge topic")
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert world.fork.read("evil.txt") == "only in the merge\n"
    assert world.fork.read("topic.txt") == "topic\n"
    assert any("Merge commits of the fork" in warning for warning in report.warnings)


def test_submodules_are_moved_with_the_fork(world: World, tmp_path: Path) -> None:
    library = new_repo(tmp_path / "library")
    first = library.commit("One", {"lib.txt": "1"})
    second = library.commit("Two", {"lib.txt": "2"})
    world.upstream.git("submodule", "--quiet", "add", str(library.path), "lib")
    world.upstream.git("-C", "lib", "checkout", "--quiet", first)
    world.upstream.commit("feat: use the library")
    run(world.fork, Mode.PUSH)
    world.merge_proposal()
    run(world.fork)
    world.fork.git("submodule", "--quiet", "update", "--init")
    assert world.fork.read("lib/lib.txt") == "1"
    world.upstream.git("-C", "lib", "checkout", "--quiet", second)
    world.upstream.commit("feat: newer library")
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert report.warnings == ()
    assert world.fork.read("lib/lib.txt") == "2"
    assert world.fork.git("status", "--porcelain") == ""


def test_a_submodule_that_cannot_be_updated_is_a_warning(world: World, tmp_path: Path) -> None:
    library = new_repo(tmp_path / "library")
    library.commit("One", {"lib.txt": "1"})
    world.upstream.git("submodule", "--quiet", "add", str(library.path), "lib")
    world.upstream.commit("feat: use the library")
    run(world.fork, Mode.PUSH)
    world.merge_proposal()
    run(world.fork)
    world.fork.git("submodule", "--quiet", "update", "--init")
    mine = Repo(world.fork.path / "lib", "Frida Fork").commit("Mine", {"mine.txt": "x"})
    Repo(world.upstream.path / "lib").commit("Not pushed", {"lib.txt": "3"})
    world.upstream.commit("feat: newer library")
    report = run(world.fork)
    assert report.outcome is Outcome.SYNCED
    assert any("submodule lib" in warning for warning in report.warnings)
    assert Repo(world.fork.path / "lib").head == mine
    assert run(world.fork).outcome is Outcome.UP_TO_DATE


def test_files_of_git_lfs_stay_pointers_without_their_server(world: World, git_configuration: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n"
    world.upstream.commit(
        "feat: film", {".gitattributes": "*.mp4 filter=lfs diff=lfs merge=lfs -text\n", "film.mp4": pointer}
    )
    with git_configuration.open("a") as file:
        file.write('[filter "lfs"]\n\tclean = false\n\tsmudge = false\n\tprocess = false\n\trequired = true\n')
    report = run(world.fork, Mode.PUSH)
    assert report.outcome is Outcome.SYNCED
    assert world.fork.read("film.mp4") == pointer


def test_hooks_of_the_fork_do_not_run(world: World) -> None:
    for hook in ("pre-commit", "commit-msg", "post-checkout", "post-commit", "pre-rebase", "reference-transaction"):
        path = world.fork.write(f".git/hooks/{hook}", '#!/bin/sh\ntouch "$HOME/hook-ran"; exit 1\n')
        path.chmod(0o755)
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    assert run(world.fork).outcome is Outcome.SYNCED


def test_a_fork_without_an_identity_gets_one(world: World) -> None:
    world.fork.git("config", "--unset", "user.name")
    world.fork.git("config", "--unset", "user.email")
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    assert run(world.fork).outcome is Outcome.SYNCED
    assert world.fork.git("log", "-1", "--format=%an") == "Flotilla"
    assert world.fork.git("log", "-1", "--format=%an", "main~1") == "Frida Fork"


def test_a_symbolic_link_of_upstream_cannot_redirect_the_changelogs(world: World, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (world.upstream.path / "changelogs").symlink_to(target)
    world.upstream.commit("feat: link")
    assert run(world.fork).outcome is Outcome.SYNCED
    assert list(target.iterdir()) == []
    assert (world.fork.path / "changelogs/user-facing/latest.json").is_file()


def test_settings_of_upstream_do_not_apply_before_they_are_merged(world: World) -> None:
    world.upstream.commit(
        "chore: settings", {"hosted-mode.toml": "[scan]\nfolders = ['none']\n", "ui/src/a.ts": "adapterType"}
    )
    report = run(world.fork)
    assert [finding.path for finding in report.scan.new] == ["ui/src/a.ts"]


def test_damaged_settings_are_refused(world: World) -> None:
    world.fork.commit("chore: settings", {"hosted-mode.toml": "[scan]\nfolder = ['ui']\n"})
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    assert_refused(world.fork, r"unknown key: scan\.folder")


def test_new_commits_of_the_fork_are_in_the_changelogs(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    run(world.fork, Mode.PUSH)
    world.merge_proposal()
    run(world.fork)
    world.fork.commit("feat: weekly summary emails", {"FORK.md": "more\n"})
    world.fork.git("push", "--quiet", "origin", "main")
    world.upstream.commit("fix: crash on logout", {"b": "1"})
    run(world.fork)
    assert json.loads(world.fork.read("changelogs/user-facing/latest.json"))["sections"] == [
        {"title": "New", "items": ["Weekly summary emails"]},
        {"title": "Fixed", "items": ["Crash on logout"]},
    ]


def test_the_environment_of_a_hook_does_not_mislead_git(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    monkeypatch.setenv("GIT_DIR", str(world.upstream.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    report = run(world.fork)
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert report.outcome is Outcome.SYNCED
    assert world.fork.head == report.new


def test_a_linked_working_tree_is_synced(world: World, tmp_path: Path) -> None:
    world.fork.git("checkout", "--quiet", "-b", "other")
    world.fork.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "main")
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    linked = Repo(tmp_path / "linked", "Frida Fork")
    assert run(linked).outcome is Outcome.SYNCED
    assert linked.log("-1") == ["Sync with upstream 2026-03-14"]
    assert (
        subprocess.run(["git", "status", "--porcelain"], cwd=linked.path, capture_output=True, check=True).stdout
        == b""
    )

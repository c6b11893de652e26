"""Publishing a sync: the branch at a real origin, the pull request, merging it, and what happens after that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from daemon.upstream.errors import SyncRefused
from daemon.upstream.publishing.forges import ForgeSettings
from daemon.upstream.report import Outcome, SyncReport
from daemon.upstream.sync import Mode, SyncOptions, sync
from tests.daemon.upstream.forge import TOKEN, Failure, Forge, running_forge
from tests.daemon.upstream.repos import World

TODAY = date(2026, 3, 14)
BRANCH = "flotilla/upstream"


def push(world: World) -> SyncReport:
    """Sync and push."""
    return sync(world.fork.path, SyncOptions(Mode.PUSH, today=TODAY))


@pytest.fixture
def forge(world: World) -> Iterator[Forge]:
    """A forge that origin's URL names, while git talks to the bare repository."""
    world.fork.git("remote", "set-url", "origin", "https://github.com/acme/bot.git")
    world.fork.git("config", f"url.{world.origin.path}.insteadOf", "https://github.com/acme/bot.git")
    with running_forge() as running:
        yield running


def propose(world: World, forge: Forge) -> SyncReport:
    """Sync and open the pull request."""
    return sync(
        world.fork.path, SyncOptions(Mode.PULL_REQUEST, forge=ForgeSettings(TOKEN, None, forge.url), today=TODAY)
    )


def test_main_at_origin_is_never_pushed(world: World) -> None:
    published = world.origin.rev("main")
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    report = push(world)
    assert report.pushed == "origin/flotilla/upstream"
    assert world.origin.rev("main") == published
    assert world.origin.rev(f"{BRANCH}^{{tree}}") == world.fork.rev("HEAD^{tree}")


@pytest.mark.parametrize("squash", [False, True], ids=["merge commit", "squash"])
def test_merging_never_conflicts_even_where_the_rebase_did(world: World, squash: bool) -> None:
    world.fork.commit("feat: ours", {"server/index.js": "start();\nours();\n"})
    world.fork.git("push", "--quiet", "origin", "main")
    world.upstream.commit("feat: add dark theme", {"server/index.js": "start(1);\n"})
    assert push(world).outcome is Outcome.CONFLICT
    world.fork.git("rebase", "upstream/main", check=False)
    world.fork.write("server/index.js", "start(1);\nours();\n")
    world.fork.git("add", "--all")
    world.fork.git("-c", "core.editor=true", "rebase", "--continue")
    assert push(world).outcome is Outcome.SYNCED
    world.merge_proposal(squash=squash)
    assert world.origin.git("rev-parse", "main^{tree}") == world.fork.git("rev-parse", "HEAD^{tree}")


@pytest.mark.parametrize("squash", [False, True], ids=["merge commit", "squash"])
def test_syncs_continue_after_the_pull_request_is_merged(world: World, squash: bool) -> None:
    for number in range(3):
        world.upstream.commit(f"feat: feature number {number}", {"a": str(number)})
        assert push(world).outcome is Outcome.SYNCED
        world.merge_proposal(squash=squash)
        assert push(world).outcome is Outcome.UP_TO_DATE
        assert world.fork.head == world.origin.rev("main")
    own = [subject for subject in world.fork.log("--no-merges", "upstream/main..main") if "Sync" not in subject]
    if not squash:
        assert set(own) == {"docs: describe the fork", "feat: add hosted mode"}
    assert world.fork.read("FORK.md") == "Ours.\n"
    assert world.fork.read("a") == "2"
    names = {path.name for path in (world.fork.path / "changelogs/user-facing").iterdir()}
    assert names == {"latest.json", "2026-03-14.json", "2026-03-14-2.json", "2026-03-14-3.json"}


def test_a_squash_that_another_checkout_made_keeps_the_changes_of_the_fork(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    push(world)
    world.merge_proposal(squash=True)
    world.upstream.commit("feat: two", {"a": "2"})
    (world.fork.path / ".git/flotilla/last-sync.json").unlink()
    world.fork.git("fetch", "--quiet", "origin")
    world.fork.git("reset", "--hard", "--quiet", "origin/main")
    assert push(world).outcome is Outcome.SYNCED
    assert world.fork.log("--first-parent", "upstream/main..main") == [
        "Sync with upstream 2026-03-14-2",
        "Keep the fork's changes as one commit",
    ]
    assert (world.fork.read("a"), world.fork.read("FORK.md")) == ("2", "Ours.\n")


def test_an_unmerged_pull_request_is_replaced_by_the_next_sync(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    push(world)
    first = world.origin.rev(BRANCH)
    world.upstream.commit("feat: two", {"a": "2"})
    push(world)
    assert world.origin.rev(BRANCH) != first
    assert world.origin.log("--no-merges", f"{BRANCH}").count("Sync with upstream 2026-03-14") == 1


def test_nothing_is_pushed_twice(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    push(world)
    pushed = world.origin.rev(BRANCH)
    report = push(world)
    assert report.outcome is Outcome.UP_TO_DATE
    assert world.origin.rev(BRANCH) == pushed


def test_a_local_sync_is_pushed_later(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    sync(world.fork.path, SyncOptions(today=TODAY))
    tip = world.fork.head
    push(world)
    assert world.fork.head == tip
    assert world.origin.rev(f"{BRANCH}^1") == tip


def test_origin_moves_on_while_the_pull_request_waits(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    push(world)
    colleague = world.second_clone()
    colleague.commit("feat: colleague", {"c": "1"})
    colleague.git("push", "--quiet", "origin", "main")
    world.upstream.commit("feat: two", {"a": "2"})
    assert push(world).outcome is Outcome.SYNCED
    assert "feat: colleague" in world.fork.log("upstream/main..main")
    world.merge_proposal()
    assert world.origin.git("rev-parse", "main^{tree}") == world.fork.git("rev-parse", "HEAD^{tree}")


def test_a_conflict_resolved_in_another_clone_is_followed(world: World) -> None:
    world.fork.commit("feat: ours", {"server/index.js": "ours();\n"})
    world.fork.git("push", "--quiet", "origin", "main")
    old = world.fork.head
    world.upstream.commit("feat: weekly summary emails", {"server/index.js": "theirs();\n"})
    assert push(world).outcome is Outcome.CONFLICT
    colleague = world.second_clone()
    colleague.git("remote", "add", "upstream", str(world.upstream.path))
    colleague.git("fetch", "--quiet", "upstream")
    colleague.git("rebase", "upstream/main", check=False)
    colleague.write("server/index.js", "both();\n")
    colleague.git("add", "--all")
    colleague.git("-c", "core.editor=true", "rebase", "--continue")
    colleague.git("push", "--quiet", "--force-with-lease", "origin", "main")
    report = push(world)
    assert report.outcome is Outcome.SYNCED
    assert world.fork.read("server/index.js") == "both();\n"
    assert "Weekly summary emails" in world.fork.read("changelogs/user-facing/latest.json")
    assert world.fork.rev(report.backup or "") == old


def test_unpublished_commits_survive_a_rewritten_origin(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    mine = world.fork.commit("feat: local", {"d": "1"})
    colleague = world.second_clone()
    colleague.git("commit", "--amend", "--quiet", "--message", "docs: rewritten")
    colleague.git("push", "--quiet", "--force", "origin", "main")
    with pytest.raises(SyncRefused, match="have diverged"):
        push(world)
    with pytest.raises(SyncRefused, match="have diverged"):
        push(world)
    assert world.fork.head == mine


def test_commits_of_people_on_the_pull_request_are_not_overwritten(world: World) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    push(world)
    colleague = world.second_clone()
    colleague.git("checkout", "--quiet", BRANCH)
    theirs = colleague.commit("feat: guard settings", {"guard.txt": "x"})
    colleague.git("push", "--quiet", "origin", BRANCH)
    world.upstream.commit("feat: two", {"a": "2"})
    before = world.fork.snapshot()
    report = push(world)
    assert report.outcome is Outcome.WAITING
    assert [commit.id for commit in report.people] == [theirs]
    assert world.origin.rev(BRANCH) == theirs
    assert world.fork.snapshot() == before
    world.merge_proposal()
    assert push(world).outcome is Outcome.SYNCED
    assert world.fork.read("guard.txt") == "x"
    assert "feat: guard settings" in world.fork.log("upstream/main..main")


def test_a_branch_of_people_with_our_name_is_refused(world: World) -> None:
    colleague = world.second_clone()
    colleague.git("checkout", "--quiet", "-b", BRANCH)
    theirs = colleague.commit("feat: mine", {"mine.txt": "x"})
    colleague.git("push", "--quiet", "origin", BRANCH)
    world.upstream.commit("feat: one", {"a": "1"})
    with pytest.raises(SyncRefused, match="was not made by a sync"):
        push(world)
    assert world.origin.rev(BRANCH) == theirs


def test_an_origin_that_refuses_the_push_is_reported_and_the_next_run_pushes(world: World) -> None:
    hook = world.origin.path / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'read only today' >&2; exit 1\n")
    hook.chmod(0o755)
    world.upstream.commit("feat: one", {"a": "1"})
    with pytest.raises(SyncRefused, match=r"synced in this repository but not pushed.*read only today"):
        push(world)
    tip = world.fork.head
    hook.unlink()
    assert push(world).pushed == "origin/flotilla/upstream"
    assert world.fork.head == tip


def test_a_branch_that_people_changed_during_the_sync_is_not_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.upstream.commit("feat: one", {"a": "1"})
    push(world)
    world.upstream.commit("feat: two", {"a": "2"})
    colleague = world.second_clone()
    colleague.git("checkout", "--quiet", BRANCH)
    theirs = colleague.commit("feat: guard", {"guard.txt": "x"})

    def push_during_the_sync(step: str) -> None:
        if step.startswith("Pushing"):
            colleague.git("push", "--quiet", "origin", BRANCH)

    with pytest.raises(SyncRefused, match="not pushed"):
        sync(world.fork.path, SyncOptions(Mode.PUSH, today=TODAY), push_during_the_sync)
    assert world.origin.rev(BRANCH) == theirs


def test_the_pull_request_lists_the_findings(world: World, forge: Forge) -> None:
    world.upstream.commit("feat: add dark theme", {"ui/src/Form.tsx": "export const Form = adapterType;\n"})
    report = propose(world, forge)
    assert report.pull_request is not None
    assert report.pull_request.created
    (pull,) = forge.pulls
    assert (pull["title"], pull["head"], pull["base"]) == ("Sync with upstream 2026-03-14", BRANCH, "main")
    assert "- [ ] **New:** `ui/src/Form.tsx`: `adapterType` in line 1" in pull["body"]
    assert "- Dark theme" in pull["body"]
    assert "changelogs/internal/2026-03-14.md" in pull["body"]


def test_the_open_pull_request_is_updated(world: World, forge: Forge) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    propose(world, forge)
    world.upstream.commit("feat: weekly summary emails", {"a": "2"})
    report = propose(world, forge)
    assert report.pull_request is not None
    assert not report.pull_request.created
    assert len(forge.pulls) == 1
    assert "Weekly summary emails" in forge.pulls[0]["body"]


def test_a_pull_request_that_failed_is_opened_by_the_next_run(world: World, forge: Forge) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    forge.failures = [Failure(404)]
    with pytest.raises(Exception, match="does not exist"):
        propose(world, forge)
    pushed = world.origin.rev(BRANCH)
    report = propose(world, forge)
    assert report.pull_request is not None
    assert world.origin.rev(BRANCH) == pushed


def test_a_pull_request_needs_a_token_before_anything_is_done(world: World) -> None:
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    before = world.fork.snapshot()
    with pytest.raises(SyncRefused, match="UPSTREAM_FORGE_TOKEN"):
        sync(world.fork.path, SyncOptions(Mode.PULL_REQUEST))
    with pytest.raises(SyncRefused, match="known forge"):
        sync(world.fork.path, SyncOptions(Mode.PULL_REQUEST, forge=ForgeSettings(TOKEN)))
    assert world.fork.snapshot() == before

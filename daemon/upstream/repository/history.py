"""Which commits are the fork's own, where they begin and what upstream has new. Used by `sync`.

A sync replays the fork's own commits on upstream and adds one *sync commit* with the changelogs. The file
``changelogs/upstream.json`` in that commit records the upstream commit that the fork contains. The branch of the
pull request ends with a *join commit*: its tree is the result of the sync, and its second parent is the published
branch, so that the pull request merges without conflicts. Both commits carry a trailer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from daemon.upstream.errors import SyncRefused
from daemon.upstream.repository.git import Git
from daemon.upstream.repository.journal import LastSync
from daemon.upstream.repository.working_tree import Head

STATE_PATH = "changelogs/upstream.json"
SYNC_TRAILER = "Flotilla-Upstream"
JOIN_TRAILER = "Flotilla-Replaces"
UPSTREAM = "upstream"
ORIGIN = "origin"


@dataclass(frozen=True)
class SyncState:
    """What the last sync recorded in the fork.

    Attributes:
        upstream: The upstream commit that the fork contains.
        findings: Path and word of the scan's findings at that time.
    """

    upstream: str
    findings: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Tips:
    """The commits that a sync starts from.

    Attributes:
        upstream: Newest commit of upstream.
        upstream_branch: Its branch.
        upstream_before: Newest commit of upstream at the last fetch, or None.
        published: The fork's branch at origin, or None.
        published_before: The fork's branch at origin when it last contained the local branch, or None.
        proposed: The pull request's branch at origin, or None.
    """

    upstream: str
    upstream_branch: str
    upstream_before: str | None = None
    published: str | None = None
    published_before: str | None = None
    proposed: str | None = None


@dataclass(frozen=True)
class Series:
    """The fork's own commits and where they go.

    Attributes:
        start: Commit of the fork that the sync begins with.
        base: Commit of upstream that the fork's commits were made on.
        since: Commit of upstream that the last changelog covers.
        commits: The fork's own commits, oldest first, without merges.
        merges: Number of merge commits among them, which are replayed as their parts.
        is_exact: Whether merging start with upstream must give the same tree as the replay.
        state: What the last sync recorded, or None.
        dropped_upstream: Commits that upstream removed by a forced push, newest first.
    """

    start: str
    base: str
    since: str
    commits: tuple[str, ...]
    merges: int
    is_exact: bool
    state: SyncState | None
    dropped_upstream: tuple[str, ...] = field(default=())


def fetch(git: Git, head: Head, branch: str | None, proposal_branch: str) -> Tips:
    """Fetch upstream and origin. A shallow clone is deepened first.

    Args:
        git: The repository.
        head: The branch that is checked out.
        branch: Upstream's branch, or None for the remote's default branch.
        proposal_branch: Name of the pull request's branch at origin.

    Returns:
        The commits to start from.

    Raises:
        SyncRefused: if the remote upstream or its branch is missing.
        GitFailed: if a remote cannot be reached.
    """
    remotes = git.lines("remote")
    if UPSTREAM not in remotes:
        raise SyncRefused("The remote upstream is missing. Add it: git remote add upstream URL")
    branch = branch or _default_branch(git)
    tracking = f"refs/remotes/{UPSTREAM}/{branch}"
    before = git.commit_of(tracking)
    published = published_before = proposed = None
    # Origin first: only origin can deepen a shallow clone whose newest commits are the fork's own.
    if ORIGIN in remotes:
        published_before = git.commit_of(_known_ref(head)) or git.commit_of(f"refs/remotes/{ORIGIN}/{head.branch}")
        published, proposed = _fetch_origin(git, head, proposal_branch)
        if published and git.contains(published, head.commit):
            git.run("update-ref", _known_ref(head), published)
    _fetch(git, UPSTREAM, f"+refs/heads/{branch}:{tracking}")
    upstream = git.commit_of(tracking)
    if upstream is None:
        raise SyncRefused(f"Upstream has no branch {branch}.")
    return Tips(upstream, branch, before, published, published_before, proposed)


def choose_start(git: Git, head: Head, tips: Tips, last: LastSync | None) -> str:
    """Choose the commit that the sync begins with: the published branch, or the local one if it contains more.

    A local result of an earlier sync that nothing was added to is replaced: the sync begins where that one began.

    Returns:
        A commit that contains everything of the published branch.

    Raises:
        SyncRefused: if the local and the published branch both have commits of their own.
    """
    local = head.commit
    if last is not None and last.branch == head.branch and last.tip == local:
        local = last.start
    published = tips.published
    if published is None or git.contains(local, published):
        return local
    if git.contains(published, local) or git.contains(published, head.commit):
        return published
    if tips.published_before and git.contains(tips.published_before, local):
        # Origin was rewritten, for example to resolve a conflict, and there is no local work.
        return published
    if _was_in_reflog(git, head, published):
        # Rewritten by hand after it contained the published branch, as `git push --force-if-includes` checks, too.
        return head.commit
    raise SyncRefused(
        f"{head.branch} and {ORIGIN}/{head.branch} have diverged. Bring them together first, for example: "
        f"git rebase {ORIGIN}/{head.branch}"
    )


def series_of(git: Git, head: Head, start: str, tips: Tips, last: LastSync | None) -> Series:
    """Find the fork's own commits.

    Args:
        git: The repository.
        head: The branch that is checked out.
        start: The commit that the sync begins with.
        tips: Result of `fetch`.
        last: What the journal knows of the last sync.

    Returns:
        The commits and the upstream commits they stand on.

    Raises:
        SyncRefused: if the fork and upstream have no common history.
    """
    state = read_state(git, start)
    known = [
        commit for commit in (state and state.upstream, tips.upstream_before) if commit and git.commit_of(commit)
    ]
    base = _best_base(git, start, [tips.upstream, *known])
    dropped = tuple(_dropped(git, tips.upstream, known))
    excluded = [tips.upstream, *known, *replaced_tips(git, start, base)]
    if state is not None and state.upstream in known and not git.contains(start, state.upstream):
        commits = _squashed_series(git, start, state.upstream, excluded, last)
        return Series(start, state.upstream, state.upstream, commits, 0, False, state, dropped)
    return Series(
        start=start,
        base=base,
        since=state.upstream if state and state.upstream in known else _first_base(git, head, tips, base),
        commits=_own_commits(git, start, excluded, tips.upstream),
        merges=len(git.lines("rev-list", "--merges", start, *_not(excluded))),
        is_exact=not dropped,
        state=state,
        dropped_upstream=dropped,
    )


def new_upstream_commits(git: Git, since: str, upstream: str) -> list[str]:
    """Return upstream's first-parent commits since a commit, oldest first, without those whose patch was there."""
    options = ("--reverse", "--topo-order", "--first-parent")
    if git.contains(upstream, since):
        return git.lines("rev-list", *options, upstream, f"^{since}")
    return git.lines("rev-list", *options, "--cherry-pick", "--right-only", f"{since}...{upstream}")


def new_own_commits(git: Git, series: Series) -> list[str]:
    """Return the fork's own commits since the last sync, oldest first. Empty before the first sync."""
    last = git.text("log", "-1", "--format=%H", series.start, "--", STATE_PATH)
    if not last:
        return []
    since = set(git.lines("rev-list", "--no-merges", series.start, f"^{last}"))
    return [commit for commit in series.commits if commit in since]


def read_state(git: Git, commit: str) -> SyncState | None:
    """Read what the last sync recorded in a commit, or None if there was none.

    Raises:
        SyncRefused: if the file is damaged.
    """
    raw = git.file_at(commit, STATE_PATH)
    if raw is None:
        return None
    try:
        data = json.loads(raw)
        findings = frozenset((str(item["path"]), str(item["word"])) for item in data["findings"])
        return SyncState(str(data["upstream"]), findings)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SyncRefused(f"{STATE_PATH} in {commit[:12]} is damaged. Restore it from an earlier commit.") from error


def is_generated(message: str) -> bool:
    """Return whether a commit message is one of a sync commit or a join commit."""
    return any(line.startswith((f"{SYNC_TRAILER}: ", f"{JOIN_TRAILER}: ")) for line in message.splitlines())


def commits_by_people(git: Git, proposed: str, tips: Tips) -> list[str] | None:
    """Return the commits that people added to the pull request's branch, oldest first.

    Returns:
        The commits, or None if no sync has made this branch.
    """
    generated = git.text(
        "log",
        "-1",
        "--first-parent",
        f"--grep=^{SYNC_TRAILER}: ",
        f"--grep=^{JOIN_TRAILER}: ",
        "--format=%H",
        proposed,
    )
    if not generated:
        return None
    excluded = [f"^{commit}" for commit in (generated, tips.published, tips.upstream) if commit]
    return git.lines("rev-list", "--reverse", "--no-merges", proposed, *excluded)


def replaced_tips(git: Git, start: str, base: str) -> list[str]:
    """Return the former tips of the published branch that join commits replaced."""
    trailers = git.lines(
        "log",
        "--merges",
        f"--grep=^{JOIN_TRAILER}: ",
        f"--format=%(trailers:key={JOIN_TRAILER},valueonly)",
        start,
        f"^{base}",
    )
    return [commit for commit in map(str.strip, trailers) if commit and git.commit_of(commit)]


def _default_branch(git: Git) -> str:
    answer = git.run_over_network("ls-remote", "--symref", UPSTREAM, "HEAD")
    for line in answer.splitlines():
        if line.startswith("ref: refs/heads/"):
            return line.removeprefix("ref: refs/heads/").split("\t")[0]
    raise SyncRefused("Upstream does not say which branch is its default. Set upstream_branch in hosted-mode.toml.")


def _fetch(git: Git, remote: str, *refspecs: str) -> None:
    shallow = git.text("rev-parse", "--is-shallow-repository") == "true"
    options = ("--unshallow",) if shallow else ()
    git.run_over_network("fetch", "--no-tags", "--no-write-fetch-head", *options, remote, *refspecs)


def _fetch_origin(git: Git, head: Head, proposal_branch: str) -> tuple[str | None, str | None]:
    branches = (head.branch, proposal_branch)
    answer = git.run_over_network("ls-remote", ORIGIN, *(f"refs/heads/{branch}" for branch in branches))
    there = {line.split("\t")[1].removeprefix("refs/heads/") for line in answer.splitlines()}
    found = [branch for branch in branches if branch in there]
    if found:
        _fetch(git, ORIGIN, *(f"+refs/heads/{branch}:refs/remotes/{ORIGIN}/{branch}" for branch in found))
    published, proposed = (
        git.commit_of(f"refs/remotes/{ORIGIN}/{branch}") if branch in there else None for branch in branches
    )
    return published, proposed


def _known_ref(head: Head) -> str:
    return f"refs/flotilla/published/{head.branch}"


def _was_in_reflog(git: Git, head: Head, commit: str) -> bool:
    entries = git.lines("rev-list", "--walk-reflogs", head.ref)
    return bool(entries) and not git.lines("rev-list", "--max-count=1", commit, *_not(entries))


def _best_base(git: Git, start: str, candidates: list[str]) -> str:
    """Return the common ancestor of start and any candidate that is nearest to start."""
    bases = {git.text("merge-base", start, candidate, codes=(0, 1)) for candidate in candidates} - {""}
    if not bases:
        raise SyncRefused("The fork and upstream have no common history. Check the URL of the remote upstream.")
    return min(sorted(bases), key=lambda base: int(git.text("rev-list", "--count", start, f"^{base}")))


def _first_base(git: Git, head: Head, tips: Tips, base: str) -> str:
    """Return what the fork contained of upstream before the first sync.

    A branch that was rebased by hand contains more than the customers' bots, so that the oldest base counts.
    """
    known = [commit for commit in (head.commit, tips.published) if commit]
    bases = {base, *(git.text("merge-base", commit, tips.upstream, codes=(0, 1)) for commit in known)} - {""}
    return max(sorted(bases), key=lambda commit: int(git.text("rev-list", "--count", tips.upstream, f"^{commit}")))


def _dropped(git: Git, upstream: str, known: list[str]) -> list[str]:
    gone = [commit for commit in known if not git.contains(upstream, commit)]
    return git.lines("rev-list", *gone, f"^{upstream}") if gone else []


def _own_commits(git: Git, start: str, excluded: list[str], upstream: str) -> tuple[str, ...]:
    """Return the commits that only the fork has, without those that upstream has as the same patch."""
    own = git.lines("rev-list", "--reverse", "--topo-order", "--no-merges", start, *_not(excluded))
    fresh = set(
        git.lines(
            "rev-list", "--no-merges", "--cherry-pick", "--right-only", f"{upstream}...{start}", *_not(excluded[1:])
        )
    )
    return tuple(commit for commit in own if commit in fresh)


def _squashed_series(
    git: Git, start: str, upstream: str, excluded: list[str], last: LastSync | None
) -> tuple[str, ...]:
    """Return the fork's own commits where the forge squashed or rebased the last pull request.

    The squashed commit contains upstream's changes without upstream's history. It is replaced by the commits that the
    sync had produced, if this repository still knows them, or by one commit with the same tree on top of upstream.
    """
    merged = git.text("log", "-1", "--first-parent", "--format=%H", start, "--", STATE_PATH)
    later = git.lines("rev-list", "--reverse", "--topo-order", "--no-merges", start, f"^{merged}", *_not(excluded))
    tree = git.tree_of(merged)
    if last is not None and git.commit_of(last.tip) and git.tree_of(last.tip) == tree:
        replaced = replaced_tips(git, last.tip, upstream)
        return (*_own_commits(git, last.tip, [upstream, *replaced], upstream), *later)
    message = "Keep the fork's changes as one commit\n\nThe pull request of an earlier sync was squashed."
    squashed = git.text("commit-tree", tree, "-p", upstream, "-m", message)
    return (squashed, *later)


def _not(commits: list[str]) -> list[str]:
    return [f"^{commit}" for commit in commits]

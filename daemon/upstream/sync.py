"""The whole sync of a fork with its upstream. Used by `flotilla upstream` and the nightly job.

1. Lock, recover an interrupted run, refuse a tree with changes, fetch.
2. Replay the fork's own commits on upstream in a temporary working tree. A conflict changes nothing.
3. Scan the result, write the changelogs, commit them.
4. Keep the old branch as a backup, move the branch, push, open the pull request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path

from daemon.upstream.changelog.changelog_files import (
    LATEST,
    Changelogs,
    commit_changelogs,
    next_version,
    versions_in,
    versions_on_disk,
    write_changelogs,
    write_to_disk,
)
from daemon.upstream.changelog.changes import read_changes
from daemon.upstream.changelog.commits import read_commits
from daemon.upstream.changelog.internal_changelog import SyncContents
from daemon.upstream.errors import GitFailed, SyncRefused
from daemon.upstream.publishing import forges
from daemon.upstream.publishing.forges import ForgeSettings, OpenPullRequest, PullRequest
from daemon.upstream.publishing.pull_request_text import pull_request_body
from daemon.upstream.report import Outcome, SyncReport, counted
from daemon.upstream.repository import history
from daemon.upstream.repository.git import Git, creating_files_of, open_repository
from daemon.upstream.repository.history import JOIN_TRAILER, ORIGIN, SYNC_TRAILER, UPSTREAM, Series, SyncState, Tips
from daemon.upstream.repository.journal import Journal, LastSync
from daemon.upstream.repository.lock import locked
from daemon.upstream.repository.rebase import (
    CommitSummary,
    Conflict,
    Replay,
    keep_merge_changes,
    replay,
    summaries,
    temporary_tree,
)
from daemon.upstream.repository.working_tree import Head, advance, current_head, recover, require_clean
from daemon.upstream.scan.findings import ScanResult
from daemon.upstream.scan.hosted_mode import CONFIG_NAME, HostedModeContext, load
from daemon.upstream.scan.scanner import scan

BACKUP_PREFIX = "flotilla/backup"
_IDENTITY = "Flotilla"
_EMAIL = "flotilla@localhost"


class Mode(Enum):
    """How far a sync goes."""

    DRY_RUN = "dry run"
    LOCAL = "local"
    PUSH = "push"
    PULL_REQUEST = "pull request"

    @property
    def pushes(self) -> bool:
        """Whether the result is pushed."""
        return self in {Mode.PUSH, Mode.PULL_REQUEST}


@dataclass(frozen=True)
class SyncOptions:
    """What the caller decides.

    Attributes:
        mode: How far the sync goes.
        rewriter: Command that polishes the user-facing changelog, or nothing.
        forge: Settings for the pull request, or None.
        today: The date of the changelogs, or None for today in UTC.
    """

    mode: Mode = Mode.LOCAL
    rewriter: tuple[str, ...] = ()
    forge: ForgeSettings | None = None
    today: date | None = None


@dataclass(frozen=True)
class _Run:
    """What the steps of one sync share."""

    git: Git
    head: Head
    context: HostedModeContext
    options: SyncOptions
    tips: Tips
    start: str
    last: LastSync | None
    progress: Callable[[str], None]


@dataclass(frozen=True)
class _Product:
    """The commit that a sync produced, and what the report says about it."""

    tip: str
    changelogs: Changelogs
    scan: ScanResult
    changes: int
    warnings: tuple[str, ...]


def sync(path: Path, options: SyncOptions, progress: Callable[[str], None] = lambda _: None) -> SyncReport:
    """Bring a fork up to date with its upstream.

    Args:
        path: A folder in the fork's working tree.
        options: What the caller decides.
        progress: Called with a sentence before each slow step.

    Returns:
        What was done. A conflict is a result; the fork is as it was then.

    Raises:
        UpstreamError: if the sync is refused. The message says what to do.
    """
    with locked(_prepared(open_repository(path), options)) as git:
        notes = recover(git)
        head = current_head(git)
        require_clean(git)
        run = _begin(git, head, options, progress)
        if options.mode.pushes and (people := _people_on_proposal(run)):
            result = scan(git, run.context, _findings_in(git, head.commit))
            report = SyncReport(
                Outcome.WAITING, head.branch, head.commit, head.commit, run.tips.upstream, people=people, scan=result
            )
        else:
            report = _sync(run)
        return replace(report, notes=(*notes, *report.notes))


def scan_only(path: Path) -> ScanResult:
    """Scan a fork's working tree with the settings on disk, compared with the last sync.

    Raises:
        UpstreamError: if the settings are damaged or the folder is no git repository.
    """
    git = open_repository(path)
    return scan(git, settings_on_disk(git.root), _findings_in(git, "HEAD") if git.commit_of("HEAD") else frozenset())


def changelog_only(path: Path, options: SyncOptions, since: str | None) -> Changelogs:
    """Write the changelogs of a range of commits into the working tree, without a commit.

    Args:
        path: A folder in the fork's working tree.
        options: What the caller decides.
        since: The commit after which the range begins, or None for the last sync.

    Raises:
        UpstreamError: if there is no such commit, or nothing since.
    """
    git = open_repository(path)
    head = git.commit_of("HEAD")
    begin = git.commit_of(since) if since else None
    if head is None or (since and begin is None):
        raise SyncRefused(f"{since or 'HEAD'} is not a commit.")
    excluded = [begin] if begin else _covered_by_last_sync(git, head)
    ids = git.lines(
        "rev-list", "--reverse", "--topo-order", "--first-parent", head, *(f"^{commit}" for commit in excluded)
    )
    found = read_changes(git, ids, excluded=excluded)
    changes = [change for change in found if not history.is_generated(change.commit.message)]
    if not changes:
        raise SyncRefused("There are no commits since then.")
    context = settings_on_disk(git.root)
    result = scan(git, context, _findings_in(git, head))
    contents = SyncContents(excluded[0], head, tuple(changes), scan=result)
    version = next_version(_today(options), versions_on_disk(git.root))
    changelogs = write_changelogs(contents, context, version, options.rewriter)
    with creating_files_of(git.root):
        write_to_disk(git.root, changelogs)
    return changelogs


def settings_on_disk(root: Path) -> HostedModeContext:
    """Read the settings of a working tree.

    Raises:
        SyncRefused: if they are damaged.
    """
    path = root / CONFIG_NAME
    return load(path.read_bytes() if path.is_file() else None)


def _prepared(git: Git, options: SyncOptions) -> Git:
    """Add what unattended runs lack: an identity for commits, and credentials for origin."""
    environment: dict[str, str] = {}
    if git.config("user.email") is None:
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": _IDENTITY, f"GIT_{role}_EMAIL": _EMAIL}
    url = git.config(f"remote.{ORIGIN}.url")
    if options.mode.pushes and url is None:
        raise SyncRefused("The remote origin is missing. Add it: git remote add origin URL")
    if options.mode is Mode.PULL_REQUEST:
        if options.forge is None or not options.forge.token:
            raise SyncRefused("A pull request needs a token. Set UPSTREAM_FORGE_TOKEN or UPSTREAM_FORGE_TOKEN_FILE.")
        forges.repository_of(url or "", options.forge)
    credentials = forges.git_credentials(url, options.forge) if url and options.forge else {}
    return replace(git, environment=environment, credentials=credentials)


def _begin(git: Git, head: Head, options: SyncOptions, progress: Callable[[str], None]) -> _Run:
    progress("Fetching upstream and origin")
    context = load(git.file_at(head.commit, CONFIG_NAME))
    tips = history.fetch(git, head, context.upstream_branch, context.proposal_branch)
    if options.mode.pushes and tips.published is None:
        raise SyncRefused(f"{ORIGIN} has no branch {head.branch}. Push it first: git push {ORIGIN} {head.branch}")
    last = Journal(git).last_sync
    start = history.choose_start(git, head, tips, last)
    # Settings come from the fork's own commits. Upstream's newest commits cannot change them before a person merged.
    return _Run(git, head, load(git.file_at(start, CONFIG_NAME)), options, tips, start, last, progress)


def _people_on_proposal(run: _Run) -> tuple[CommitSummary, ...]:
    """Return the commits of people on the pull request's branch that are not merged yet."""
    proposed, published = run.tips.proposed, run.tips.published
    if proposed is None or (published and run.git.contains(published, proposed)):
        return ()
    people = history.commits_by_people(run.git, proposed, run.tips)
    if people is None:
        raise SyncRefused(
            f"The branch {run.context.proposal_branch} at {ORIGIN} was not made by a sync. Rename it, or set another "
            f"proposal_branch in {CONFIG_NAME}."
        )
    return summaries(run.git, "--no-walk=unsorted", *people) if people else ()


def _sync(run: _Run) -> SyncReport:
    series = history.series_of(run.git, run.head, run.start, run.tips, run.last)
    if series.since == run.tips.upstream:
        return _stay(run)
    if run.last == _record(run, run.head.commit, run.last.pushed if run.last else None):
        return _publish_again(run, series)
    try:
        product = _produce(run, series)
    except Conflict as conflict:
        return _report(run, Outcome.CONFLICT, run.head.commit, conflict=conflict)
    if run.options.mode is Mode.DRY_RUN:
        return _product_report(run, product, dry_run=True)
    backup, warnings = _move(run, product.tip)
    Journal(run.git).last_sync = _record(run, product.tip, None)
    report = _product_report(run, product, backup=backup)
    report = replace(report, warnings=(*report.warnings, *warnings))
    return _publish(run, report) if run.options.mode.pushes else report


def _stay(run: _Run) -> SyncReport:
    """Report that upstream has nothing new, after bringing the branch to what is published."""
    backup: str | None = None
    warnings: list[str] = []
    if run.options.mode is not Mode.DRY_RUN:
        backup, warnings = _move(run, run.start)
    result = scan(run.git, run.context, _findings_in(run.git, run.start))
    report = replace(
        _report(run, Outcome.UP_TO_DATE, run.start), scan=result, backup=backup, warnings=tuple(warnings)
    )
    return _publish(run, report) if run.options.mode.pushes and _is_unpublished(run, run.start) else report


def _publish_again(run: _Run, series: Series) -> SyncReport:
    """Push the result of an earlier sync whose push is missing or not confirmed."""
    before = series.state.findings if series.state else frozenset()
    result = scan(run.git, run.context, before)
    report = replace(_report(run, Outcome.UP_TO_DATE, run.head.commit), scan=result)
    return _publish(run, report) if run.options.mode.pushes else report


def _produce(run: _Run, series: Series) -> _Product:
    """Replay, scan, write the changelogs and commit them, without touching the user's branch and files."""
    git, tips = run.git, run.tips
    in_place = git.contains(run.start, tips.upstream)
    run.progress("Checking out upstream" if not in_place else "Checking out the fork")
    with temporary_tree(git, run.start if in_place else tips.upstream) as tree:
        replayed = None if in_place else _replay(run, tree, series)
        run.progress("Scanning")
        before = series.state.findings if series.state else frozenset[tuple[str, str]]()
        result = scan(tree, run.context, before)
    tip = replayed.tip if replayed else run.start
    run.progress("Writing changelogs")
    contents = _contents(run, series, replayed, result)
    version = next_version(_today(run.options), versions_in(git, tip))
    changelogs = write_changelogs(contents, run.context, version, run.options.rewriter)
    message = (
        f"Sync with upstream {version}\n\n"
        f"{UPSTREAM}/{tips.upstream_branch} with {counted(len(contents.changes), 'change')} since the last sync.\n\n"
        f"{SYNC_TRAILER}: {tips.upstream}"
    )
    tip = commit_changelogs(git, tip, changelogs, upstream=tips.upstream, scan=result, message=message)
    warnings = [*changelogs.warnings, *(replayed.warnings if replayed else ())]
    if series.dropped_upstream:
        warnings.append(
            f"Upstream rewrote its history and removed {counted(len(series.dropped_upstream), 'commit')}."
        )
    return _Product(tip, changelogs, result, len(contents.changes), tuple(warnings))


def _replay(run: _Run, tree: Git, series: Series) -> Replay:
    run.progress(f"Replaying {counted(len(series.commits), 'commit')} of the fork")
    replayed = replay(tree, series.commits, series.base)
    if not series.merges:
        return replayed
    warning = (
        keep_merge_changes(tree, run.start, run.tips.upstream)
        if series.is_exact
        else "The fork contains merge commits. Check that the sync kept what they changed."
    )
    return replace(replayed, tip=tree.text("rev-parse", "HEAD"), warnings=(warning,) if warning else ())


def _contents(run: _Run, series: Series, replayed: Replay | None, result: ScanResult) -> SyncContents:
    git = run.git
    changes = read_changes(git, history.new_upstream_commits(git, series.since, run.tips.upstream))
    dropped = {commit.id for commit in replayed.dropped} if replayed else set()
    own = [commit for commit in read_commits(git, series.commits) if not history.is_generated(commit.message)]
    own_new = set(history.new_own_commits(git, series))
    return SyncContents(
        since=series.since,
        upstream=run.tips.upstream,
        changes=tuple(changes),
        own_new=tuple(read_changes(git, [commit.id for commit in own if commit.id in own_new], is_own=True)),
        reapplied=tuple(CommitSummary(c.id, c.author, c.subject) for c in own if c.id not in dropped),
        replay=replayed,
        dropped_upstream=summaries(git, "--no-walk=unsorted", *series.dropped_upstream)
        if series.dropped_upstream
        else (),
        scan=result,
    )


def _move(run: _Run, tip: str) -> tuple[str | None, list[str]]:
    """Keep the old branch as a backup and move the branch. Returns the backup's name and warnings."""
    git, head = run.git, run.head
    backup = None
    is_generated_before = run.last is not None and run.last.tip == head.commit
    if not git.contains(tip, head.commit) and not is_generated_before:
        backup = _back_up(run)
    if tip != head.commit:
        run.progress(f"Moving {head.branch}")
    warnings = advance(git, head, tip, f"flotilla upstream: sync with {run.tips.upstream[:12]}")
    return backup, warnings


def _back_up(run: _Run) -> str:
    """Create a branch at the old commit, named by branch and date, with a number if the name is taken."""
    git, head = run.git, run.head
    name = base = f"{BACKUP_PREFIX}/{head.branch}-{_today(run.options).isoformat()}"
    number = 1
    while (taken := git.commit_of(f"refs/heads/{name}")) not in {None, head.commit}:
        number += 1
        name = f"{base}-{number}"
    if taken is None:
        git.run("update-ref", f"refs/heads/{name}", head.commit, "0" * len(head.commit))
    return name


def _publish(run: _Run, report: SyncReport) -> SyncReport:
    """Push the result to the pull request's branch, and open or update the pull request."""
    branch = run.context.proposal_branch
    joined = _join(run, report.new)
    if joined != run.tips.proposed:
        run.progress(f"Pushing {branch}")
        _push(run, joined, branch)
    Journal(run.git).last_sync = _record(run, report.new, joined)
    report = replace(report, pushed=f"{ORIGIN}/{branch}")
    if run.options.mode is not Mode.PULL_REQUEST:
        return report
    run.progress("Opening the pull request")
    return replace(report, pull_request=_propose(run, report, branch))


def _join(run: _Run, tip: str) -> str:
    """Return the commit to push: the result, or a commit that joins it with the published branch it replaces."""
    git, published = run.git, run.tips.published
    if published is None or git.contains(tip, published):
        return tip
    pushed = run.last.pushed if run.last else None
    for known in (pushed, run.tips.proposed):
        if known and git.text("log", "-1", "--format=%P", known).split() == [tip, published]:
            return known
    subject = git.text("log", "-1", "--format=%s", tip)
    message = (
        f"{subject}: join the published branch\n\n"
        "The tree is the result of the sync. The second parent is the branch it replaces, so that merging works."
        f"\n\n{JOIN_TRAILER}: {published}"
    )
    return git.text("commit-tree", git.tree_of(tip), "-p", tip, "-p", published, "-m", message)


def _push(run: _Run, commit: str, branch: str) -> None:
    lease = f"--force-with-lease=refs/heads/{branch}:{run.tips.proposed or ''}"
    try:
        run.git.run_over_network("push", "--quiet", lease, ORIGIN, f"{commit}:refs/heads/{branch}")
    except GitFailed as error:
        raise SyncRefused(
            f"{run.head.branch} is synced in this repository but not pushed: {error.detail} Run the sync again."
        ) from error


def _propose(run: _Run, report: SyncReport, branch: str) -> OpenPullRequest:
    git, settings = run.git, run.options.forge
    if settings is None:
        raise SyncRefused("A pull request needs a token.")
    link = git.text("cat-file", "blob", f"{report.new}:{LATEST}")
    version = Path(link).stem
    user_facing = git.file_at(report.new, f"changelogs/user-facing/{version}.json") or b'{"sections": []}'
    body = pull_request_body(user_facing.decode(), f"changelogs/internal/{version}.md", report.scan, report.warnings)
    wanted = PullRequest(f"Sync with upstream {version}", body, branch, run.head.branch)
    repository = forges.repository_of(git.config(f"remote.{ORIGIN}.url") or "", settings)
    return forges.propose(repository, settings, wanted)


def _is_unpublished(run: _Run, tip: str) -> bool:
    """Return whether a commit contains a sync that the published branch does not contain."""
    ours, published = history.read_state(run.git, tip), run.tips.published
    theirs = history.read_state(run.git, published) if published else None
    return ours is not None and (theirs is None or theirs.upstream != ours.upstream)


def _record(run: _Run, tip: str, pushed: str | None) -> LastSync:
    return LastSync(run.head.branch, run.start, run.tips.upstream, tip, pushed)


def _report(run: _Run, outcome: Outcome, new: str, conflict: Conflict | None = None) -> SyncReport:
    return SyncReport(
        outcome,
        run.head.branch,
        run.head.commit,
        new,
        run.tips.upstream,
        run.options.mode is Mode.DRY_RUN,
        conflict=conflict,
    )


def _product_report(run: _Run, product: _Product, *, dry_run: bool = False, backup: str | None = None) -> SyncReport:
    return replace(
        _report(run, Outcome.SYNCED, product.tip),
        dry_run=dry_run,
        version=product.changelogs.version,
        changes=product.changes,
        backup=backup,
        scan=product.scan,
        warnings=product.warnings,
    )


def _covered_by_last_sync(git: Git, head: str) -> Sequence[str]:
    state: SyncState | None = history.read_state(git, head)
    last = git.text("log", "-1", "--format=%H", head, "--", history.STATE_PATH)
    if state is None or not last:
        raise SyncRefused("There was no sync yet. Give the commit to begin after: --since REV")
    return [last, state.upstream, *history.replaced_tips(git, head, state.upstream)]


def _findings_in(git: Git, commit: str) -> frozenset[tuple[str, str]]:
    state = history.read_state(git, commit)
    return state.findings if state else frozenset()


def _today(options: SyncOptions) -> date:
    return options.today or datetime.now(UTC).date()

"""Git commands on one repository, run by subprocess. Used by every module that reads or changes the fork.

User configuration stays in force where it concerns the content (identity, line endings, merge drivers, rerere) and is
overridden where it would prompt, start background processes or run the fork's hooks.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from daemon.upstream.errors import GitFailed, SyncRefused

NETWORK_TIMEOUT_SECONDS = 1800

_OPTIONS = (
    "core.quotePath=false",
    "core.fsmonitor=false",
    "color.ui=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "log.showSignature=false",
    "rerere.autoUpdate=true",
    # A connection that stays below 1 KB/s for a minute fails.
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
)
_WITHOUT_HOOKS = "core.hooksPath=/dev/null"
# LFS pointer files are checked out as they are: the objects may exist only on upstream's server.
POINTERS = ("filter.lfs.smudge=", "filter.lfs.process=", "filter.lfs.required=false")
_CREDENTIALS_IN_URL = re.compile(r"(\w+://)[^/@\s]+@")
_DETAIL_LIMIT = 2000


def umask_of(root: Path) -> int:
    """Return the umask that gives new files of a checkout the permissions of its top folder.

    Flotilla's own umask keeps other accounts out, but people and image builds use the checkout, too.
    """
    return 0o777 & ~root.stat().st_mode


@contextmanager
def creating_files_of(root: Path) -> Iterator[None]:
    """Use the umask of a checkout for files that this process writes into it."""
    previous = os.umask(umask_of(root))
    try:
        yield
    finally:
        os.umask(previous)


@dataclass(frozen=True)
class Git:
    """One working tree and how to run git in it.

    Attributes:
        root: Top folder of the working tree.
        inherited: File descriptors that local git commands inherit, so that a lock outlives a killed parent for as
            long as its git command runs.
        environment: Variables on top of the cleaned environment of this process.
        credentials: Further variables for commands that talk to a remote.
    """

    root: Path
    inherited: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    def run(
        self,
        *arguments: str,
        codes: Sequence[int] = (0,),
        options: Sequence[str] = POINTERS,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a local git command without hooks.

        Args:
            arguments: Subcommand and its arguments.
            codes: Exit codes that are an answer and not a failure.
            options: Configuration on top of the common one, as ``key=value``.
            environment: Variables for this command only.
            stdin: What the command reads.

        Returns:
            The finished process with its output as bytes.

        Raises:
            GitFailed: for any other exit code.
        """
        done = subprocess.run(
            self._command(arguments, (_WITHOUT_HOOKS, *options)),
            cwd=self.root,
            env=_environment(self.environment, environment),
            input=stdin,
            capture_output=True,
            check=False,
            pass_fds=self.inherited,
            umask=umask_of(self.root),
        )
        if done.returncode not in codes:
            raise GitFailed(arguments[0], _detail(done), done.returncode)
        return done

    def run_over_network(self, *arguments: str) -> str:
        """Run a git command that talks to a remote, without prompts and with a time limit.

        Hooks run for ``push`` only: Git LFS uploads its objects in ``pre-push``. The command leads a
        new session, so that ssh finds no terminal to ask at.

        Args:
            arguments: Subcommand and its arguments.

        Returns:
            The standard output.

        Raises:
            GitFailed: if the command fails or exceeds the time limit.
        """
        options = () if arguments[0] == "push" else (_WITHOUT_HOOKS,)
        try:
            done = subprocess.run(
                self._command(arguments, options),
                cwd=self.root,
                env=_environment(self.environment, self.credentials),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=NETWORK_TIMEOUT_SECONDS,
                start_new_session=True,
                umask=umask_of(self.root),
            )
        except subprocess.TimeoutExpired as error:
            raise GitFailed(arguments[0], f"no answer within {NETWORK_TIMEOUT_SECONDS} seconds", -1) from error
        if done.returncode != 0:
            raise GitFailed(arguments[0], _detail(done), done.returncode)
        return decode(done.stdout)

    def text(self, *arguments: str, codes: Sequence[int] = (0,)) -> str:
        """Return the output of a local git command as text without the final newline."""
        return decode(self.run(*arguments, codes=codes).stdout).rstrip("\n")

    def lines(self, *arguments: str) -> list[str]:
        """Return the output of a local git command as lines."""
        return self.text(*arguments).splitlines()

    def fields(self, *arguments: str, codes: Sequence[int] = (0,)) -> list[str]:
        """Return the NUL-separated output of a local git command that is run with ``-z``."""
        return [part for part in decode(self.run(*arguments, codes=codes).stdout).split("\0") if part]

    def succeeds(self, *arguments: str) -> bool:
        """Return whether a local git command that answers by exit code 0 or 1 answers 0."""
        return self.run(*arguments, codes=(0, 1)).returncode == 0

    def commit_of(self, name: str) -> str | None:
        """Return the full id of the commit that a ref or id names, or None."""
        done = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", codes=(0, 1, 128)
        )
        return done.stdout.decode().strip() or None

    def tree_of(self, commit: str) -> str:
        """Return the id of a commit's tree."""
        return self.text("rev-parse", "--verify", f"{commit}^{{tree}}")

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Return whether a commit is reachable from another one. A commit contains itself."""
        return self.succeeds("merge-base", "--is-ancestor", ancestor, descendant)

    def config(self, key: str) -> str | None:
        """Return a value of the configuration, or None."""
        return self.text("config", "--get", key, codes=(0, 1)) or None

    def file_at(self, commit: str, path: str) -> bytes | None:
        """Return the content of a regular file in a commit, or None if the commit has no such file."""
        entry = self.text("ls-tree", commit, "--", path)
        if not re.match(r"100\d{3} blob ", entry):
            return None
        return self.run("cat-file", "blob", entry.split()[2]).stdout

    def at(self, root: Path) -> Git:
        """Return the same settings for another working tree of the repository."""
        return replace(self, root=root)

    @cached_property
    def git_dir(self) -> Path:
        """Folder with HEAD and index of this working tree."""
        return Path(self.text("rev-parse", "--absolute-git-dir"))

    def _command(self, arguments: Sequence[str], options: Sequence[str]) -> list[str]:
        configuration = [part for option in (*_OPTIONS, *options) for part in ("-c", option)]
        return ["git", *configuration, *arguments]


def open_repository(path: Path) -> Git:
    """Find the working tree that a folder belongs to.

    Raises:
        SyncRefused: if the folder does not exist or is not inside a git working tree.
    """
    if not path.is_dir():
        raise SyncRefused(f"{path} is not a folder.")
    try:
        root = Git(path).text("rev-parse", "--show-toplevel")
    except GitFailed as error:
        raise SyncRefused(f"{path} is not a git working tree: {error.detail}") from error
    except FileNotFoundError as error:
        raise SyncRefused("git is not installed.") from error
    return Git(Path(root))


def redact(text: str) -> str:
    """Remove user names and passwords from URLs in a text."""
    return _CREDENTIALS_IN_URL.sub(r"\1***@", text)


def decode(raw: bytes) -> str:
    """Decode git's output. File names need not be UTF-8, so undecodable bytes survive a round trip."""
    return raw.decode("utf-8", errors="surrogateescape")


def _environment(*layers: Mapping[str, str] | None) -> dict[str, str]:
    # GIT_DIR, GIT_INDEX_FILE and the like, which git sets for hooks, would point at another repository.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(("GIT_CONFIG_", "GIT_SSH", "GIT_AUTHOR_", "GIT_COMMITTER_"))
    }
    kept |= {
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_EDITOR": "true",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    for layer in layers:
        kept |= layer or {}
    return kept


def _detail(done: subprocess.CompletedProcess[bytes]) -> str:
    words = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
    hints = ("hint: ", "warning: ")
    told = [line for line in words.splitlines() if line.strip() and not line.startswith(hints)]
    return redact(" ".join(line.strip() for line in told))[:_DETAIL_LIMIT]

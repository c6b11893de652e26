"""Real git repositories for the tests: an upstream, a bare origin and the fork's checkout."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_DATE": "2026-01-01T10:00:00+00:00",
    "GIT_COMMITTER_DATE": "2026-01-01T10:00:00+00:00",
}


@dataclass(frozen=True)
class Repo:
    """A repository with a working tree.

    Attributes:
        path: Its top folder.
        author: Name of the author of its commits.
    """

    path: Path
    author: str = "Uma Upstream"
    environment: dict[str, str] = field(default_factory=dict)

    def git(self, *arguments: str, check: bool = True) -> str:
        """Run git and return its output."""
        email = f"{self.author.split()[0].lower()}@example.com"
        identity = {
            "GIT_AUTHOR_NAME": self.author,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": self.author,
            "GIT_COMMITTER_EMAIL": email,
        }
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=self.path,
            env={**os.environ, **ENVIRONMENT, **identity, **self.environment},
            capture_output=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {arguments} failed: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="surrogateescape").rstrip("\n")

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str) -> str:
        """Read a file."""
        return (self.path / name).read_text()

    def commit(self, message: str, files: dict[str, str | bytes | None] | None = None) -> str:
        """Write files, or delete those that are None, and commit everything. Returns the commit."""
        for name, content in (files or {}).items():
            if content is None:
                (self.path / name).unlink()
            else:
                self.write(name, content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head

    @property
    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def rev(self, name: str) -> str:
        """The commit of a name, or an empty text."""
        return self.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", check=False)

    def log(self, *arguments: str) -> list[str]:
        """Subjects, newest first."""
        return self.git("log", "--format=%s", *arguments).splitlines()

    def snapshot(self) -> dict[str, str]:
        """Everything of a checkout that a sync must not change when it fails."""
        return {
            "branches": self.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/stash"),
            "head": self.git("symbolic-ref", "--quiet", "HEAD", check=False) or self.head,
            "index": self.git("ls-files", "--stage"),
            "status": self.git("status", "--porcelain=v1", "--ignored"),
            "files": "\n".join(
                f"{file.relative_to(self.path)} {file.read_bytes()!r}"
                for file in sorted(self.path.rglob("*"))
                if file.is_file() and ".git" not in file.relative_to(self.path).parts
            ),
            "worktrees": self.git("worktree", "list"),
        }


def new_repo(path: Path, author: str = "Uma Upstream") -> Repo:
    """Make an empty repository with the branch main."""
    path.mkdir(parents=True)
    repo = Repo(path, author)
    repo.git("init", "--quiet", "--initial-branch=main")
    return repo


def clone(source: Path, path: Path, author: str, *options: str) -> Repo:
    """Clone a repository."""
    repo = Repo(path.parent, author)
    repo.git("clone", "--quiet", *options, str(source), str(path))
    return Repo(path, author)


@dataclass(frozen=True)
class World:
    """An upstream, the fork's bare origin, and the operator's checkout of the fork."""

    folder: Path
    upstream: Repo
    origin: Repo
    fork: Repo

    def second_clone(self, name: str = "colleague") -> Repo:
        """Another checkout of origin, of a colleague."""
        return clone(self.origin.path, self.folder / name, "Carla Colleague")

    def merge_proposal(self, *, squash: bool = False) -> None:
        """Merge the pull request's branch into main at origin, as a forge does."""
        desk = clone(self.origin.path, self.folder / f"merge-{len(list(self.folder.iterdir()))}", "Max Merger")
        if squash:
            desk.git("merge", "--squash", "--quiet", "origin/flotilla/upstream")
            desk.git("commit", "--quiet", "--message", "Sync with upstream (#7)")
        else:
            desk.git("merge", "--no-ff", "--quiet", "--message", "Merge pull request #7", "origin/flotilla/upstream")
        desk.git("push", "--quiet", "origin", "HEAD:main", ":flotilla/upstream")


def new_world(folder: Path) -> World:
    """Make an upstream with a small application and a fork with two more commits."""
    upstream = new_repo(folder / "upstream")
    upstream.commit("Initial commit", {
        "README.md": "# Bot\n",
        "ui/src/App.tsx": "export function App() {\n  return <main>Hello</main>;\n}\n",
        "server/index.js": "start();\n",
    })  # fmt: skip
    origin = folder / "origin.git"
    upstream.git("clone", "--quiet", "--bare", str(upstream.path), str(origin))
    fork = clone(origin, folder / "fork", "Frida Fork")
    fork.git("remote", "add", "upstream", str(upstream.path))
    fork.git("config", "user.name", "Frida Fork")
    fork.git("config", "user.email", "frida@example.com")
    fork.commit("feat: add hosted mode", {"ui/src/hosted.ts": "export const isHosted = () => true;\n"})
    fork.commit("docs: describe the fork", {"FORK.md": "Ours.\n"})
    fork.git("push", "--quiet", "origin", "main")
    return World(folder, upstream, Repo(origin), fork)

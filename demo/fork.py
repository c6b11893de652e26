"""The demo's bot as a fork of an upstream product: two git repositories, a checkout, and images built from the fork.

Used by the end-to-end check and by tests. The demo plays upstream's developers and the person who merges.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from demo.images import BASE_REPOSITORY, BOT_CONFIGURATION, BOT_SOURCE
from demo.processes import DemoError

PROPOSAL = "flotilla/upstream"
_DOCKERFILE = (
    f"FROM {BASE_REPOSITORY}:latest",
    *BOT_CONFIGURATION,
    "COPY app /app",
    "COPY changelogs/user-facing/ /app/changelogs/",
)
_HOSTED = "// The platform manages infrastructure and teams.\nexport const isHosted = () => true;\n"
_PAGE = "export function Notes() {\n  return <main>Notes</main>;\n}\n"
_ADAPTERS = "export function Adapters() {\n  return <select name={adapterType} />;\n}\n"


@dataclass(frozen=True)
class DemoFork:
    """Upstream, the fork's published repository, and the operator's checkout of it.

    Attributes:
        folder: contains the three repositories.
    """

    folder: Path

    @property
    def checkout(self) -> Path:
        """The checkout for the setting `UPSTREAM_REPO`."""
        return self.folder / "checkout"

    @property
    def origin(self) -> Path:
        """The published repository of the fork, without a working tree."""
        return self.folder / "origin.git"

    def create(self) -> None:
        """Create the repositories unless they exist: the bot's source upstream, Dockerfile and guards in the fork.

        Raises:
            DemoError: git failed or is not installed.
        """
        if self.checkout.exists():
            return
        upstream = self._upstream
        upstream.mkdir(parents=True)
        self._git(upstream, "init", "--quiet", "--initial-branch=main")
        files = {f"app/reference_bot/{source.name}": source.read_text() for source in sorted(BOT_SOURCE.glob("*.py"))}
        self._commit(
            upstream, "feat: notes", {**files, "ui/src/Notes.tsx": _PAGE, "app/behaviour.json": _behaviour("0")}
        )
        self._git(self.folder, "clone", "--quiet", "--bare", str(upstream), str(self.origin))
        preparing = self.folder / "preparing"
        self._git(self.folder, "clone", "--quiet", str(self.origin), str(preparing))
        self._git(preparing, "remote", "add", "upstream", str(upstream))
        ours = {"Dockerfile": "\n".join(_DOCKERFILE) + "\n", "ui/src/hosted.ts": _HOSTED}
        self._commit(preparing, "feat: hosted mode", ours)
        self._git(preparing, "push", "--quiet", "origin", "main")
        preparing.rename(self.checkout)

    def change_upstream(self, version: str, feature: str) -> None:
        """Commit upstream what customers notice, and what they must not read about.

        Args:
            version: the version that the bot tells.
            feature: the subject of the commit that customers notice, as a conventional commit.
        """
        self._commit(self._upstream, feature, {"app/behaviour.json": _behaviour(version)})
        adapters = {"ui/src/Adapters.tsx": f"{_ADAPTERS}// {version}\n"}
        self._commit(self._upstream, "feat(adapters): choose the adapter of an agent", adapters)

    def merge(self) -> None:
        """Merge the pull request's branch into the fork's main branch, as a person does at the forge.

        Raises:
            DemoError: there is nothing to merge.
        """
        merged = f"refs/heads/{PROPOSAL}"
        tree = self._git(self.origin, "rev-parse", f"{merged}^{{tree}}")
        parents = ("-p", "refs/heads/main", "-p", merged)
        commit = self._git(self.origin, "commit-tree", tree, *parents, "-m", "Merge the sync with upstream")
        self._git(self.origin, "update-ref", "refs/heads/main", commit)
        self._git(self.origin, "update-ref", "-d", merged)

    def archive(self) -> IO[bytes]:
        """Return the published source as a tar archive, from which the image is built."""
        return io.BytesIO(self._run(self.origin, "archive", "--format=tar", "main"))

    @property
    def _upstream(self) -> Path:
        return self.folder / "upstream"

    def _commit(self, repository: Path, message: str, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git(repository, "add", "--all")
        self._git(repository, "commit", "--quiet", "--message", message)

    def _git(self, repository: Path, *arguments: str) -> str:
        return self._run(repository, *arguments).decode().strip()

    def _run(self, repository: Path, *arguments: str) -> bytes:
        identity = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "Flotilla demo"), ("EMAIL", "demo@demo.example"))
        }
        environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull}
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=repository, env=environment, capture_output=True, check=False
            )
        except FileNotFoundError as error:
            raise DemoError("git is not installed") from error
        if done.returncode != 0:
            raise DemoError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


def _behaviour(version: str) -> str:
    return json.dumps({"version": version, "behaviour": "good", "start_seconds": 0}) + "\n"

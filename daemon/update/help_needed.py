"""What an operator is told when a bot could not be brought back: where everything is, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath

from daemon.update.run import Run
from portal.models import Snapshot, SnapshotState

_RESTORE = (
    "cd /volume && find . -mindepth 1 -delete && chmod 00700 . && tar --extract --numeric-owner --same-permissions"
    " --xattrs --xattrs-include='*' --acls --sparse --file /archives/{file}"
)


def instructions(run: Run, snapshots: Sequence[Snapshot], why: str, problem: str) -> str:
    """Say what happened, where the archives are, and which commands bring the bot back by hand.

    Args:
        run: the update.
        snapshots: its archives that were not deleted.
        why: why the update was to be taken back.
        problem: why that failed.
    """
    old = run.update.old_container_id or "(gone)"
    lines = [
        f"The update failed: {why}" if why else "The update failed.",
        f"Taking it back failed too: {problem}",
        "",
        f"Nothing was deleted. On node {run.node.name}:",
        f"- old container {old[:12]}, named {run.name_of_old} or {run.name}",
        *(f"- volume {row.volume}: archive {row.archive} ({_state(row)})" for row in snapshots),
        "",
        "By hand, on that node, after looking at what is there:",
        *(_restoring(run, row) for row in snapshots if row.state is SnapshotState.VERIFIED),
        f"docker rename {old[:12]} {shlex.quote(run.name)}",
        f"docker start {old[:12]}",
    ]
    return "\n".join(lines)


def _state(snapshot: Snapshot) -> str:
    if snapshot.state is SnapshotState.RESTORED:
        return "already restored"
    return f"SHA-256 {snapshot.sha256}" if snapshot.sha256 else "never verified: do not restore it"


def _restoring(run: Run, snapshot: Snapshot) -> str:
    archive = PurePosixPath(snapshot.archive)
    script = _RESTORE.format(file=shlex.quote(archive.name))
    image = snapshot.helper_digest or run.settings.snapshot_image
    volume, folder = f"{snapshot.volume}:/volume", f"{archive.parent}:/archives:ro"
    return (
        f"docker run --rm --network none --volume {shlex.quote(volume)} --volume {shlex.quote(folder)}"
        f" {image} sh -c {shlex.quote(script)}"
    )

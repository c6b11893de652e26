"""What an operator is told when a bot could not be brought back: where everything is, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from daemon.engine import containers
from daemon.update.update_context import UpdateContext
from portal.models import Snapshot, SnapshotState, Verdict

_RESTORE = (
    "cd /volume && echo {sha256} /archives/{file} | sha256sum --check && find . -mindepth 1 -delete"
    " && chmod 00700 . && tar --extract --same-permissions --numeric-owner"
    " --xattrs --xattrs-include='*' --acls --file=/archives/{file}"
)


def write_instructions(context: UpdateContext, snapshots: Sequence[Snapshot], why: str, problem: str) -> str:
    """Say what happened, where the archives are, and which commands bring the bot back by hand.

    Args:
        run: the update.
        snapshots: its archives that were not deleted.
        why: why the update was to be taken back.
        problem: why that failed.
    """
    old = containers.inspect(context.engine, context.update.old_container_id)
    return "\n".join(
        [
            f"The update failed: {why}",
            f"Taking it back failed too: {problem}",
            "",
            f"No data was deleted. On node {context.node.name} there are:",
            f"- the old container {context.old[:12]}" if old else "- no old container any more: somebody removed it",
            *(f"- volume {row.volume}: archive {row.archive} ({_state(row)})" for row in snapshots),
            "",
            "To bring the bot back by hand, on that node, after looking at what went wrong:",
            *_commands(context, snapshots, old),
        ]
    )


def _state(snapshot: Snapshot) -> str:
    if snapshot.state is SnapshotState.RESTORED:
        return "already restored"
    return f"SHA-256 {snapshot.sha256}" if snapshot.sha256 else "never verified, do not restore it"


def _commands(context: UpdateContext, snapshots: Sequence[Snapshot], old: dict[str, Any] | None) -> Iterator[str]:
    if containers.inspect(context.engine, context.update.new_container_id):
        yield f"docker rm --force {context.new[:12]}"
    if context.update.verdict is Verdict.FAILED:  # before that no new code has touched the volumes
        yield from (_restoring(row) for row in snapshots if row.state is SnapshotState.VERIFIED)
    if old is None:
        yield "Then start a container like it, with these volumes, and make it known:"
        yield f"flotilla bots attach {context.bot.subdomain} {shlex.quote(context.name)}"
        return
    if containers.name_of_container(old) != context.name:
        yield f"docker rename {context.old[:12]} {shlex.quote(context.name)}"
    yield f"docker update --restart {_restart_policy(context)} {context.old[:12]}"
    yield f"docker start {context.old[:12]}"


def _restoring(snapshot: Snapshot) -> str:
    archive = PurePosixPath(snapshot.archive)
    script = _RESTORE.format(sha256=snapshot.sha256, file=shlex.quote(archive.name))
    volume, folder = shlex.quote(f"{snapshot.volume}:/volume"), shlex.quote(f"{archive.parent}:/archives:ro")
    return (
        f"docker run --rm --network none --volume {volume} --volume {folder}"
        f" {snapshot.helper_digest} sh -c {shlex.quote(script)}"
    )


def _restart_policy(context: UpdateContext) -> str:
    policy: dict[str, Any] = context.saved["container"]["HostConfig"]["RestartPolicy"]
    name, retries = policy.get("Name") or "no", policy.get("MaximumRetryCount")
    return f"{name}:{retries}" if retries else name

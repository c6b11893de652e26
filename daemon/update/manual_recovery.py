"""Instructions for an operator after a failed rollback: where the data is and which commands to run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from daemon.engine import containers
from daemon.update.update_context import UpdateContext
from portal.models import Snapshot, SnapshotState, Verdict
from portal.rules.outside_text import clean_text

_MAX_REASON = 2000
"""Characters of each reason. The column cuts long instructions, and the commands come last."""
_RESTORE = (
    "cd /volume && echo {sha256} /archives/{file} | sha256sum --check && find . -mindepth 1 -delete"
    " && chmod 00700 . && tar --extract --same-permissions --numeric-owner"
    " --xattrs --xattrs-include='*' --acls --file=/archives/{file}"
)


def write_instructions(context: UpdateContext, snapshots: Sequence[Snapshot], *, reason: str, problem: str) -> str:
    """Describe what happened, where the archives are, and which commands restore the bot by hand.

    Args:
        context: context of the update.
        snapshots: archives of the update that were not deleted.
        reason: why the update failed.
        problem: why the rollback failed.
    """
    old = containers.inspect(context.engine, context.update.old_container_id)
    return "\n".join(
        [
            f"The update failed: {clean_text(reason, _MAX_REASON)}",
            f"The rollback failed too: {clean_text(problem, _MAX_REASON)}",
            "",
            f"No archive was deleted. Node {context.node.name} has:",
            f"- the old container {context.old_container[:12]}" if old else "- no old container: it was removed",
            *(f"- volume {row.volume}: archive {row.archive} ({_describe_state(row)})" for row in snapshots),
            "",
            "Solve the problem, then let Flotilla continue the rollback, on the page of the bot or with:",
            f"flotilla bots recover {context.bot.subdomain}",
            "",
            "Or restore the bot by hand on that node:",
            *_commands(context, snapshots, old),
        ]
    )


def _describe_state(snapshot: Snapshot) -> str:
    if snapshot.state is SnapshotState.RESTORED:
        return "already restored"
    return f"SHA-256 {snapshot.sha256}" if snapshot.sha256 else "never verified; do not restore it"


def _commands(context: UpdateContext, snapshots: Sequence[Snapshot], old: dict[str, Any] | None) -> Iterator[str]:
    if containers.inspect(context.engine, context.update.new_container_id):
        yield f"docker rm --force {context.new_container[:12]}"
    if context.update.verdict is Verdict.FAILED:  # without a verdict the volumes are untouched
        yield from (_restore_command(row) for row in snapshots if row.state is SnapshotState.VERIFIED)
    if old is None:
        yield "Then start a container with the same settings and volumes, and attach it to the bot:"
        yield f"flotilla bots attach {context.bot.subdomain} {shlex.quote(context.bot_name)}"
        return
    if containers.name_of_container(old) != context.bot_name:
        yield f"docker rename {context.old_container[:12]} {shlex.quote(context.bot_name)}"
    yield f"docker update --restart {_restart_policy(context)} {context.old_container[:12]}"
    yield f"docker start {context.old_container[:12]}"


def _restore_command(snapshot: Snapshot) -> str:
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

"""Checks on the engine before a failed rollback is continued at the request of an operator. Used by `recovery`.

Since the rollback failed, people may have repaired the bot, removed its container or pruned images. A rollback that
cannot be completed must not begin to overwrite data.
"""

from __future__ import annotations

from docker.errors import ImageNotFound
from sqlalchemy.orm import Session

from daemon.engine import containers
from daemon.engine.labels import UPDATE_LABEL
from daemon.update.manual_recovery import write_instructions
from daemon.update.update_context import UpdateContext
from portal.models import BotUpdate, SnapshotState, Verdict, utcnow
from portal.rules.references import parse_reference
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes
from portal.services.rollouts.outcomes import ROLLBACK_FAILED_TOO


def refuse_if_impossible(context: UpdateContext) -> bool:
    """Mark the bot as needing attention again, with what is missing, if its rollback cannot be continued.

    Returns:
        Whether the rollback was refused. Nothing on the engine was changed then.
    """
    obstacle = _find_started_by_hand(context) or _find_other_user(context) or _find_lost_image(context)
    if obstacle is None:
        return False
    reason = context.update.error or ""
    with context.transaction() as (session, update):
        archives = snapshots.list_for_update(session, update.id)
    instructions = write_instructions(context, archives, reason=reason, problem=obstacle)

    def flag(session: Session, update: BotUpdate, text: str, instructions: str) -> None:
        outcomes.mark_needs_attention(session, update, text, instructions, utcnow(), transient=update.transient)

    context.record_outcome(flag, reason + ROLLBACK_FAILED_TOO, instructions)
    return True


def _find_started_by_hand(context: UpdateContext) -> str | None:
    # The rollback itself starts the old container only after it has restored all volumes.
    old = containers.inspect(context.engine, context.update.old_container_id)
    if old is None or not _list_volumes_to_restore(context):
        return None
    if old["State"]["StartedAt"] == context.saved["container"]["State"]["StartedAt"]:
        return None
    return (
        "The old container was started by hand since, so its volumes may contain newer data, which the rollback would"
        " overwrite. If the bot is repaired, mark it as fixed"
    )


def _find_other_user(context: UpdateContext) -> str | None:
    for volume in _list_volumes_to_restore(context):
        for user in context.engine.containers(filters={"volume": volume}):
            belongs_to_update = (user["Labels"] or {}).get(UPDATE_LABEL) == context.update.id
            mounted = {mount.get("Name") for mount in user["Mounts"]}
            if volume in mounted and not belongs_to_update:
                return f"The container {user['Names'][0].lstrip('/')} uses volume {volume}. Stop it first"
    return None


def _find_lost_image(context: UpdateContext) -> str | None:
    if containers.inspect(context.engine, context.update.old_container_id) is not None:
        return None
    tag = ":".join(context.keep_tag)
    try:
        context.engine.inspect_image(tag)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        image = parse_reference(context.release.repository).pinned(str(context.update.previous_digest))
        return (
            f"The old container was removed, and its image is not on the node. Get it with: docker pull {image} &&"
            f" docker tag {image} {tag}"
        )
    return None


def _list_volumes_to_restore(context: UpdateContext) -> list[str]:
    """List the volumes that the rollback would empty and restore."""
    if context.update.verdict is not Verdict.FAILED:
        return []  # the new container never ran, so the volumes are untouched
    with context.transaction() as (session, update):
        return [
            row.volume for row in snapshots.list_for_update(session, update.id) if row.state is SnapshotState.VERIFIED
        ]

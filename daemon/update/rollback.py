"""How a failed update is undone: abandon it, start the old container again, or restore data and container.

Used by `sequence` when a phase fails and by `recovery`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from docker.errors import APIError
from sqlalchemy.orm import Session

from daemon.engine import containers
from daemon.engine.addresses import read_address
from daemon.engine.client import EngineUnreachable, describe_error
from daemon.engine.recreate import creation
from daemon.errors import OperationFailed
from daemon.snapshots.archives import Archive
from daemon.update.cleanup import clean, delete_archives, remove_keep_tag
from daemon.update.manual_recovery import write_instructions
from daemon.update.update_context import INFRASTRUCTURE_ERRORS, UpdateContext
from portal.models import BotUpdate, Snapshot, SnapshotState, Step, UpdateState, Verdict, move, utcnow
from portal.rules.references import parse_reference
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes, updates
from portal.services.rollouts.outcomes import Outcome

logger = logging.getLogger(__name__)


class RollbackFailed(OperationFailed):
    """The bot could not be restored to its old state, so it needs attention."""


@dataclass(frozen=True)
class _RestoredContainer:
    """The old container after it was started again."""

    container_id: str
    address: str | None
    healthy: bool


def abandon(context: UpdateContext, error: Exception) -> None:
    """Fail an update before the stop. The old container kept running."""
    if context.update.step in {Step.PRECREATE, Step.BASE, Step.DRAIN}:
        discard_preparations(context)
    else:
        with suppress(EngineUnreachable):  # may be the cause of the failure, and nothing was created yet
            discard_preparations(context)

    def fail(session: Session, update: BotUpdate, text: str) -> None:
        now = utcnow()
        outcomes.end_failed(session, update, _failed(error, text), now)
        updates.mark_cleaned(session, update, now)

    context.record_outcome(fail, describe_error(error))


def discard_preparations(context: UpdateContext) -> None:
    """Remove the new container, which never ran, unfinished archives, and the tag that protects the old image."""
    _remove_new_container(context)
    context.helper.remove_all_helpers()
    delete_archives(context)
    remove_keep_tag(context)


def undo_before_start(context: UpdateContext, error: Exception) -> None:
    """Start the old container again. The new one never ran, so the volumes are untouched."""

    def start_again() -> None:
        context.helper.remove_all_helpers()
        _remove_new_container(context)
        restored = _start_old_container(context)

        def fail(session: Session, update: BotUpdate, text: str) -> None:
            _mark_rolled_back(session, update, _failed(error, text), restored)

        context.record_outcome(fail, describe_error(error))

    if _run_or_flag_bot(context, start_again, describe_error(error)):
        clean(context)


def start_rollback(context: UpdateContext, error: Exception) -> None:
    """Record the verdict against the new container, then restore volumes and old container."""
    context.require_engine()
    log_tail = containers.log_tail(context.engine, context.update.new_container_id)

    def fail(session: Session, update: BotUpdate, reason: str, log_tail: str | None) -> None:
        updates.enter_step(session, update, Step.ROLLBACK, utcnow())
        outcomes.mark_failed(session, update, reason, log_tail)

    context.record_outcome(fail, describe_error(error), log_tail)
    run_rollback(context)


def run_rollback(context: UpdateContext) -> None:
    """Run or continue a rollback after the verdict failed."""

    def restore() -> None:
        _remove_new_container(context)
        _restore_volumes(context)
        restored = _start_old_container(context)
        _tag_running_image(context, restored.container_id)
        with context.transaction() as (session, update):
            _mark_rolled_back(session, update, Outcome(state=UpdateState.ROLLED_BACK), restored)

    if _run_or_flag_bot(context, restore, context.update.error or ""):
        clean(context)


def _run_or_flag_bot(context: UpdateContext, undo: Callable[[], None], reason: str) -> bool:
    """Undo an update. If that fails, mark the bot as needing attention and return False."""
    try:
        undo()
    except INFRASTRUCTURE_ERRORS:
        raise
    except Exception as error:
        context.require_engine()
        logger.exception("rollback of update %s failed", context.update.id)
        with suppress(APIError):  # the operator's commands may need the volumes
            context.helper.remove_all_helpers()
        with context.transaction() as (session, update):
            archives = snapshots.list_for_update(session, update.id)
        instructions = _try_to_write_instructions(context, archives, reason, describe_error(error))

        def flag(session: Session, update: BotUpdate, text: str, instructions: str) -> None:
            outcomes.mark_needs_attention(session, update, text, instructions, utcnow())

        context.record_outcome(flag, f"{reason}. The rollback failed too", instructions)
        return False
    return True


def _try_to_write_instructions(
    context: UpdateContext, archives: Sequence[Snapshot], reason: str, problem: str
) -> str:
    # A bot that needs attention must be marked, even where the engine refuses what the instructions need.
    try:
        return write_instructions(context, archives, reason=reason, problem=problem)
    except INFRASTRUCTURE_ERRORS:
        raise
    except Exception:
        logger.exception("the instructions for update %s could not be written", context.update.id)
        return (
            f"The update failed: {reason}\nThe rollback failed too: {problem}\n"
            "No archive was deleted. List the archives with: flotilla snapshots list"
        )


def _failed(error: Exception, text: str) -> Outcome:
    return Outcome(state=UpdateState.FAILED, error=text, transient=bool(getattr(error, "transient", False)))


def _mark_rolled_back(session: Session, update: BotUpdate, outcome: Outcome, restored: _RestoredContainer) -> None:
    outcomes.mark_rolled_back(
        session,
        update,
        outcome,
        restored.container_id,
        restored.address,
        answers=restored.healthy,
        now=utcnow(),
    )


def _remove_new_container(context: UpdateContext) -> None:
    # The id is missing until it is recorded after the creation; the temporary name is gone after the swap.
    new = context.update.new_container_id or containers.find(
        context.engine, context.temporary_name, context.update.id
    )
    if new is None or containers.inspect(context.engine, new) is None:
        return
    containers.set_restart_policy(context.guarded_engine(), new, containers.NO_RESTART)
    containers.stop(context.engine, new, context.lease.renew_or_raise)
    containers.remove(context.guarded_engine(), new, with_anonymous_volumes=True)


def _restore_volumes(context: UpdateContext) -> None:
    with context.transaction() as (session, update):
        taken = snapshots.list_for_update(session, update.id)
    archives = [_require_verified(snapshot) for snapshot in taken if snapshot.state is not SnapshotState.RESTORED]
    if not archives:
        return
    context.require_helper().restore(
        archives, context.volume_sizes, compare_all=context.settings.restore_compares_all
    )
    with context.transaction() as (session, update):
        for snapshot in snapshots.list_for_update(session, update.id):
            if snapshot.state is SnapshotState.VERIFIED:
                move(session, snapshot, SnapshotState.VERIFIED, SnapshotState.RESTORED)


def _require_verified(snapshot: Snapshot) -> Archive:
    if snapshot.state is not SnapshotState.VERIFIED or snapshot.checksum is None:
        raise RollbackFailed(
            f"The archive of volume {snapshot.volume} was never verified, so the volume was not changed"
        )
    return Archive(snapshot.volume, snapshot.archive, snapshot.checksum, snapshot.size or 0)


def _start_old_container(context: UpdateContext) -> _RestoredContainer:
    old = _require_old_container(context)
    if context.update.step is Step.STOP and context.update.verdict is None:
        # A stop signal may still be pending. A container started now would stop a moment later.
        containers.stop(context.engine, old, context.lease.renew_or_raise)
    _restore_name(context, old)
    containers.set_restart_policy(
        context.guarded_engine(), old, context.saved["container"]["HostConfig"]["RestartPolicy"]
    )
    containers.start(context.guarded_engine(), old)
    started = context.engine.inspect_container(old)
    if started["Image"] != context.saved["container"]["Image"]:
        raise RollbackFailed("The old container does not run the old image")
    if not context.update.journal.get("healthy_before"):
        address = read_address(started, context.node, context.bot.port)
        return _RestoredContainer(old, address, healthy=False)
    result = context.wait_until_healthy(old)
    if not result.healthy:
        raise RollbackFailed(f"The old container was started again, but its health check failed: {result.reason}")
    return _RestoredContainer(old, result.address, healthy=True)


def _restore_name(context: UpdateContext, old: str) -> None:
    try:
        containers.rename(context.guarded_engine(), old, context.bot_name)
    except APIError as error:
        # Another container has taken the name. The bot starts anyway; the next preflight says what to do.
        logger.warning(
            "the old container of update %s keeps its temporary name: %s", context.update.id, error.explanation
        )


def _require_old_container(context: UpdateContext) -> str:
    """Return the old container. If it was removed, create it again from its captured description."""
    if context.update.old_container_id and containers.inspect(context.engine, context.update.old_container_id):
        return context.update.old_container_id
    recreated = containers.find(context.engine, context.set_aside_name, context.update.id)
    if recreated is None:
        plan = creation.plan_original(context.saved, ":".join(context.keep_tag))
        plan.config["Labels"] = {**(plan.config.get("Labels") or {}), **context.labels}
        recreated = creation.create(context.guarded_engine(), plan, context.set_aside_name)
    with context.transaction() as (_, update):
        update.old_container_id = recreated
    return recreated


def _tag_running_image(context: UpdateContext, container_id: str) -> None:
    """Move the local tag to the image that runs, for operators who start containers by hand."""
    reference = parse_reference(context.bot.image)
    if context.update.verdict is Verdict.FAILED and reference.tag:
        image = context.engine.inspect_container(container_id)["Image"]
        context.guarded_engine().tag(image, reference.name, reference.tag, force=True)

"""How a failed update is undone: abandon it, start the old container again, or restore data and container.

Used by `sequence` when a phase fails and by `recovery`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from docker.errors import DockerException
from sqlalchemy.orm import Session

from daemon.engine import containers
from daemon.engine.addresses import read_address
from daemon.engine.client import describe_error
from daemon.engine.recreate import creation
from daemon.engine.trouble import is_engine_trouble
from daemon.errors import EngineTrouble, OperationFailed
from daemon.snapshots.archives import Archive
from daemon.update import original_settings
from daemon.update.cleanup import clean_or_defer, delete_archives, remove_keep_tag, remove_new_container
from daemon.update.manual_recovery import write_instructions
from daemon.update.retries import has_expired, repeat
from daemon.update.update_context import INFRASTRUCTURE_ERRORS, UpdateContext
from portal.models import BotUpdate, Snapshot, SnapshotState, Step, UpdateState, move, utcnow
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes, updates
from portal.services.rollouts.outcomes import Outcome

logger = logging.getLogger(__name__)


class RollbackFailed(OperationFailed):
    """The bot could not be restored to its old state, so it needs attention."""


class OldContainerStopped(RollbackFailed, EngineTrouble):
    """The old container stopped right after its start, as when a late call stops it. It may be started again."""


@dataclass(frozen=True)
class _RestoredContainer:
    """The old container after it was started again."""

    container_id: str
    address: str | None
    healthy: bool


def abandon(context: UpdateContext, error: Exception) -> None:
    """Fail an update before the stop. The old container kept running."""

    def fail(session: Session, update: BotUpdate, text: str) -> None:
        outcomes.end_failed(session, update, _failed(error, text), utcnow())

    context.record_outcome(fail, describe_error(error))
    clean_or_defer(context)


def discard_preparations(context: UpdateContext) -> None:
    """Remove the new container, which never ran, unfinished archives, and the tag that protects the old image."""
    remove_new_container(context)
    delete_archives(context)
    remove_keep_tag(context)


def undo_before_start(context: UpdateContext, error: Exception) -> None:
    """Start the old container again. The new one never ran, so the volumes are untouched."""
    _record_reason(context, error)

    def start_again(_context: UpdateContext) -> None:
        context.helper.remove_all_helpers()
        remove_new_container(context)
        restored = _start_old_container(context)

        def fail(session: Session, update: BotUpdate, text: str) -> None:
            _mark_rolled_back(session, update, _failed(error, text), restored)

        context.record_outcome(fail, describe_error(error))

    if _run_or_flag_bot(context, start_again, describe_error(error), transient=_is_transient(error)):
        clean_or_defer(context)


def start_rollback(context: UpdateContext, error: Exception) -> None:
    """Record the verdict against the new container, then restore volumes and old container."""
    context.require_engine()
    log_tail = containers.log_tail(context.engine, context.update.new_container_id)

    def fail(session: Session, update: BotUpdate, reason: str, log_tail: str | None) -> None:
        updates.enter_step(session, update, Step.ROLLBACK, utcnow())
        outcomes.mark_failed(session, update, reason, log_tail, transient=_is_transient(error))

    context.record_outcome(fail, describe_error(error), log_tail)
    run_rollback(context)


def run_rollback(context: UpdateContext) -> None:
    """Run or continue a rollback after the verdict failed."""
    transient = context.update.transient

    def restore(_context: UpdateContext) -> None:
        remove_new_container(context)
        _restore_volumes(context)
        restored = _start_old_container(context)
        # Trouble of the engine leaves the bot as a failure before the stop does: unchanged, and free to try again.
        state = UpdateState.FAILED if transient else UpdateState.ROLLED_BACK
        with context.transaction() as (session, update):
            _mark_rolled_back(session, update, Outcome(state=state, transient=transient), restored)

    if _run_or_flag_bot(context, restore, context.update.error or "", transient=transient):
        clean_or_defer(context)


def _record_reason(context: UpdateContext, error: Exception) -> None:
    """Record why an update failed, for a worker that has to complete what this worker begins."""

    def record(session: Session, update: BotUpdate, text: str) -> None:
        outcomes.record_reason(session, update, text, transient=_is_transient(error))

    context.record_outcome(record, describe_error(error))


def _run_or_flag_bot(
    context: UpdateContext, undo: Callable[[UpdateContext], None], reason: str, *, transient: bool
) -> bool:
    """Undo an update. If that fails, mark the bot as needing attention and return False.

    Raises:
        EngineTrouble: the engine is in trouble; a later job continues.
    """
    try:
        repeat(context, undo)
    except INFRASTRUCTURE_ERRORS:
        raise
    except Exception as error:
        context.require_engine()
        if is_engine_trouble(error) and not has_expired(context, undo):
            raise
        context.log_failure("rollback of update %s failed: %s", error)
        with suppress(DockerException, EngineTrouble):  # the operator's commands may need the volumes
            context.helper.remove_all_helpers()
        with context.transaction() as (session, update):
            archives = snapshots.list_for_update(session, update.id)
        instructions = _try_to_write_instructions(context, archives, reason, describe_error(error))

        def flag(session: Session, update: BotUpdate, text: str, instructions: str) -> None:
            outcomes.mark_needs_attention(session, update, text, instructions, utcnow(), transient=transient)

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
    return Outcome(state=UpdateState.FAILED, error=text, transient=_is_transient(error))


def _is_transient(error: Exception) -> bool:
    return is_engine_trouble(error) or bool(getattr(error, "transient", False))


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
    original_settings.restore(context, old)
    containers.start(context.guarded_engine(), old)
    started = context.engine.inspect_container(old)
    if started["Image"] != context.saved["container"]["Image"]:
        raise RollbackFailed("The old container does not run the old image")
    if not context.update.journal.get("healthy_before"):
        address = read_address(started, context.node, context.bot.port)
        return _RestoredContainer(old, address, healthy=False)
    result = context.wait_until_healthy(old)
    if not result.healthy:
        running = (containers.inspect(context.engine, old) or started)["State"]["Running"]
        failure = RollbackFailed if running else OldContainerStopped
        raise failure(f"The old container was started again, but its health check failed: {result.reason}")
    return _RestoredContainer(old, result.address, healthy=True)


def _require_old_container(context: UpdateContext) -> str:
    """Return the old container. If it was removed, create it again from its captured description."""
    if context.update.old_container_id and containers.inspect(context.engine, context.update.old_container_id):
        return context.update.old_container_id
    recreated = containers.find(context.engine, context.set_aside_name, context.update.id)
    if recreated is None:
        plan = creation.plan_original(context.saved, ":".join(context.keep_tag))
        plan.config["Labels"] = {**(plan.config.get("Labels") or {}), **context.labels}
        recreated = context.create_container(plan, context.set_aside_name)
    with context.transaction() as (_, update):
        update.old_container_id = recreated
    return recreated

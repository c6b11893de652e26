"""The ways back: leaving the old container alone, starting it again, or taking data and container back together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from docker.errors import APIError

from daemon.engine import containers, health_probe
from daemon.engine.client import EngineUnreachable
from daemon.engine.recreate import creation
from daemon.errors import OperationFailed
from daemon.update.finish import clean, drop_keep_tag
from daemon.update.manual_recovery import write_instructions
from daemon.update.update_context import UNDECIDABLE, UpdateContext, describe_error
from portal.models import Snapshot, SnapshotState, Step, UpdateState, Verdict, move
from portal.rules.references import parse_reference
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes, updates
from portal.services.rollouts.outcomes import Outcome

logger = logging.getLogger(__name__)


class RollbackFailed(OperationFailed):
    """The bot could not be brought back to where it was; a person has to look."""


@dataclass(frozen=True)
class _Back:
    """The old container, serving again."""

    container_id: str
    address: str | None
    healthy: bool


def abandon(context: UpdateContext, error: Exception) -> None:
    """Give up before anything was stopped: the old container never noticed."""
    if context.update.step is Step.PRECREATE:
        discard_preparations(context)
    else:
        with suppress(EngineUnreachable):  # it may be the very reason, and nothing was created yet
            discard_preparations(context)
    with context.write() as (session, update):
        outcomes.end_failed(session, update, _failed(error))
        updates.mark_cleaned(session, update)


def discard_preparations(context: UpdateContext) -> None:
    """Remove the new container, which never ran, and let the old image be pruned again."""
    _remove_new(context)
    drop_keep_tag(context)


def undo_before_start(context: UpdateContext, error: Exception) -> None:
    """Start the old container again as it was. The new one never ran, so the volumes are untouched."""

    def start_again() -> None:
        context.helper.end_all()
        _remove_new(context)
        back = _bring_old_back(context)
        with context.write() as (session, update):
            outcomes.mark_rolled_back(
                session, update, _failed(error), back.container_id, back.address, answers=back.healthy
            )

    if _or_call_for_help(context, start_again, describe_error(error)):
        clean(context)


def start_rollback(context: UpdateContext, error: Exception) -> None:
    """Decide against the new container, then bring volumes and old container back together."""
    context.require_engine()
    tail = containers.log_tail(context.engine, context.update.new_container_id)
    with context.write() as (session, update):
        updates.enter_step(session, update, Step.ROLLBACK)
        outcomes.mark_failed(session, update, describe_error(error), tail)
    run_rollback(context)


def run_rollback(context: UpdateContext) -> None:
    """Carry out, or go on with, a rollback that was decided."""

    def restore() -> None:
        _remove_new(context)
        _restore_volumes(context)
        back = _bring_old_back(context)
        _point_tag_at(context, back.container_id)
        with context.write() as (session, update):
            outcomes.mark_rolled_back(
                session,
                update,
                Outcome(state=UpdateState.ROLLED_BACK),
                back.container_id,
                back.address,
                answers=back.healthy,
            )

    if _or_call_for_help(context, restore, context.update.error or ""):
        clean(context)


def _or_call_for_help(context: UpdateContext, go: Callable[[], None], why: str) -> bool:
    try:
        go()
    except UNDECIDABLE:
        raise
    except Exception as error:
        context.require_engine()
        logger.exception("update %s could not be taken back", context.update.id)
        with context.write() as (session, update):
            archives = snapshots.list_for_update(session, update.id)
        text = write_instructions(context, archives, why, describe_error(error))
        with context.write() as (session, update):
            outcomes.mark_needs_attention(session, update, f"{why}; taking it back failed too", text)
        return False
    return True


def _failed(error: Exception) -> Outcome:
    return Outcome(
        state=UpdateState.FAILED,
        error=describe_error(error),
        transient=bool(getattr(error, "transient", False)),
    )


def _remove_new(context: UpdateContext) -> None:
    # Before its id was written down, or after it took the bot's name, only one of the two finds it.
    new = context.update.new_container_id or containers.find(context.engine, context.name_of_new, context.update.id)
    if new is None or containers.inspect(context.engine, new) is None:
        return
    containers.set_restart_policy(context.guarded_engine(), new, containers.NO_RESTART)
    containers.stop(context.engine, new, context.lease.renew_or_raise)
    containers.remove(context.guarded_engine(), new, with_fresh_volumes=True)


def _restore_volumes(context: UpdateContext) -> None:
    with context.write() as (session, update):
        taken = snapshots.list_for_update(session, update.id)
    helper = context.helper_again()
    for number, snapshot in enumerate(taken, start=1):
        if snapshot.state is SnapshotState.RESTORED:
            continue
        if snapshot.state is not SnapshotState.VERIFIED or snapshot.sha256 is None:
            raise RollbackFailed(f"the archive of volume {snapshot.volume} was never verified; nothing was emptied")
        context.lease.renew_or_raise()
        helper.restore(number, snapshot.volume, snapshot.archive, snapshot.sha256, snapshot.size or 0)
        with context.write() as (session, update):
            move(
                session,
                session.get_one(Snapshot, snapshot.id),
                SnapshotState.VERIFIED,
                SnapshotState.RESTORED,
            )


def _bring_old_back(context: UpdateContext) -> _Back:
    old = _old_container(context)
    if context.update.step is Step.STOP and context.update.verdict is None:
        # A signal may still be on its way to it; started now, it would be stopped a moment later.
        containers.stop(context.engine, old, context.lease.renew_or_raise)
    _give_name_back(context, old)
    containers.set_restart_policy(
        context.guarded_engine(), old, context.saved["container"]["HostConfig"]["RestartPolicy"]
    )
    containers.start(context.guarded_engine(), old)
    found = context.engine.inspect_container(old)
    if found["Image"] != context.saved["container"]["Image"]:
        raise RollbackFailed("the old container does not run the old image")
    if not context.update.journal.get("healthy_before"):
        return _Back(old, health_probe.read_address(found, context.node, context.bot.port), healthy=False)
    back = context.wait_until_healthy(old)
    if not back.healthy:
        raise RollbackFailed(f"the old container was started again but is not healthy: {back.reason}")
    return _Back(old, back.address, healthy=True)


def _give_name_back(context: UpdateContext, old: str) -> None:
    try:
        containers.rename(context.guarded_engine(), old, context.name)
    except APIError as error:
        # Somebody has taken it. A name is no reason to stay down; the next preflight says what to do about it.
        logger.warning(
            "the old container of update %s keeps a temporary name: %s", context.update.id, error.explanation
        )


def _old_container(context: UpdateContext) -> str:
    """The old container, or what it was made anew as, should somebody have pruned it."""
    if context.update.old_container_id and containers.inspect(context.engine, context.update.old_container_id):
        return context.update.old_container_id
    again = containers.find(context.engine, context.name_of_old, context.update.id)
    if again is None:
        plan = creation.plan_original(context.saved, ":".join(context.keep_tag))
        plan.config["Labels"] = {**(plan.config.get("Labels") or {}), **context.labels}
        again = creation.create(context.guarded_engine(), plan, context.name_of_old)
    with context.write() as (_, update):
        update.old_container_id = again
    return again


def _point_tag_at(context: UpdateContext, container_id: str) -> None:
    """Let the local tag name what runs, for those who start containers by hand."""
    reference = parse_reference(context.bot.image)
    if context.update.verdict is Verdict.FAILED and reference.tag:
        image = context.engine.inspect_container(container_id)["Image"]
        context.guarded_engine().tag(image, reference.name, reference.tag, force=True)

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
from daemon.errors import UpdateFailed
from daemon.update.finish import clean, drop_keep_tag
from daemon.update.manual_recovery import instructions
from daemon.update.update_context import NOT_OURS_TO_JUDGE, Run, words
from portal.models import Snapshot, SnapshotState, Step, UpdateState, Verdict, move
from portal.rules.references import parse_reference
from portal.services.bots import snapshots
from portal.services.rollouts import outcomes, updates
from portal.services.rollouts.outcomes import Ending

logger = logging.getLogger(__name__)


class GoingBackFailed(UpdateFailed):
    """The bot could not be brought back to where it was; a person has to look."""


@dataclass(frozen=True)
class _Back:
    """The old container, serving again."""

    container_id: str
    address: str | None
    healthy: bool


def abandon(run: Run, error: Exception) -> None:
    """Give up before anything was stopped: the old container never noticed."""
    if run.update.step is Step.PRECREATE:
        forget_preparations(run)
    else:
        with suppress(EngineUnreachable):  # it may be the very reason, and nothing was created yet
            forget_preparations(run)
    with run.write() as (session, update):
        outcomes.fail(session, update, _failed(error))
        updates.cleaned(session, update)


def forget_preparations(run: Run) -> None:
    """Remove the new container, which never ran, and let the old image be pruned again."""
    _remove_new(run)
    drop_keep_tag(run)


def undo(run: Run, error: Exception) -> None:
    """Start the old container again as it was. The new one never ran, so the volumes are untouched."""

    def start_again() -> None:
        run.helper.end_all()
        _remove_new(run)
        back = _bring_old_back(run)
        with run.write() as (session, update):
            outcomes.went_back(session, update, _failed(error), back.container_id, back.address, answers=back.healthy)

    if _or_call_for_help(run, start_again, words(error)):
        clean(run)


def roll_back(run: Run, error: Exception) -> None:
    """Decide against the new container, then bring volumes and old container back together."""
    run.require_engine()
    tail = containers.log_tail(run.engine, run.update.new_container_id)
    with run.write() as (session, update):
        updates.enter(session, update, Step.ROLLBACK)
        outcomes.condemn(session, update, words(error), tail)
    go_back(run)


def go_back(run: Run) -> None:
    """Carry out, or go on with, a rollback that was decided."""

    def restore() -> None:
        _remove_new(run)
        _restore_volumes(run)
        back = _bring_old_back(run)
        _point_tag_at(run, back.container_id)
        with run.write() as (session, update):
            outcomes.went_back(
                session,
                update,
                Ending(state=UpdateState.ROLLED_BACK),
                back.container_id,
                back.address,
                answers=back.healthy,
            )

    if _or_call_for_help(run, restore, run.update.error or ""):
        clean(run)


def _or_call_for_help(run: Run, go: Callable[[], None], why: str) -> bool:
    try:
        go()
    except NOT_OURS_TO_JUDGE:
        raise
    except Exception as error:
        run.require_engine()
        logger.exception("update %s could not be taken back", run.update.id)
        with run.write() as (session, update):
            archives = snapshots.of_update(session, update.id)
        text = instructions(run, archives, why, words(error))
        with run.write() as (session, update):
            outcomes.call_for_help(session, update, f"{why}; taking it back failed too", text)
        return False
    return True


def _failed(error: Exception) -> Ending:
    return Ending(
        state=UpdateState.FAILED,
        error=words(error),
        transient=bool(getattr(error, "transient", False)),
    )


def _remove_new(run: Run) -> None:
    # Before its id was written down, or after it took the bot's name, only one of the two finds it.
    new = run.update.new_container_id or containers.find(run.engine, run.name_of_new, run.update.id)
    if new is None or containers.inspect(run.engine, new) is None:
        return
    containers.set_restart_policy(run.hand(), new, containers.NO_RESTART)
    containers.stop(run.engine, new, run.lease.still_mine)
    containers.remove(run.hand(), new, with_fresh_volumes=True)


def _restore_volumes(run: Run) -> None:
    with run.write() as (session, update):
        taken = snapshots.of_update(session, update.id)
    helper = run.helper_again()
    for number, snapshot in enumerate(taken, start=1):
        if snapshot.state is SnapshotState.RESTORED:
            continue
        if snapshot.state is not SnapshotState.VERIFIED or snapshot.sha256 is None:
            raise GoingBackFailed(f"the archive of volume {snapshot.volume} was never verified; nothing was emptied")
        run.lease.still_mine()
        helper.restore(number, snapshot.volume, snapshot.archive, snapshot.sha256, snapshot.size or 0)
        with run.write() as (session, update):
            move(
                session,
                session.get_one(Snapshot, snapshot.id),
                SnapshotState.VERIFIED,
                SnapshotState.RESTORED,
            )


def _bring_old_back(run: Run) -> _Back:
    old = _old_container(run)
    if run.update.step is Step.STOP and run.update.verdict is None:
        # A signal may still be on its way to it; started now, it would be stopped a moment later.
        containers.stop(run.engine, old, run.lease.still_mine)
    _give_name_back(run, old)
    containers.set_restart_policy(run.hand(), old, run.saved["container"]["HostConfig"]["RestartPolicy"])
    containers.start(run.hand(), old)
    found = run.engine.inspect_container(old)
    if found["Image"] != run.saved["container"]["Image"]:
        raise GoingBackFailed("the old container does not run the old image")
    if not run.update.journal.get("healthy_before"):
        return _Back(old, health_probe.read_address(found, run.node, run.bot.port), healthy=False)
    back = run.wait_until_healthy(old)
    if not back.healthy:
        raise GoingBackFailed(f"the old container was started again but is not healthy: {back.reason}")
    return _Back(old, back.address, healthy=True)


def _give_name_back(run: Run, old: str) -> None:
    try:
        containers.rename(run.hand(), old, run.name)
    except APIError as error:
        # Somebody has taken it. A name is no reason to stay down; the next preflight says what to do about it.
        logger.warning("the old container of update %s keeps a temporary name: %s", run.update.id, error.explanation)


def _old_container(run: Run) -> str:
    """The old container, or what it was made anew as, should somebody have pruned it."""
    if run.update.old_container_id and containers.inspect(run.engine, run.update.old_container_id):
        return run.update.old_container_id
    again = containers.find(run.engine, run.name_of_old, run.update.id)
    if again is None:
        plan = creation.plan_original(run.saved, ":".join(run.keep_tag))
        plan.config["Labels"] = {**(plan.config.get("Labels") or {}), **run.labels}
        again = creation.create(run.hand(), plan, run.name_of_old)
    with run.write() as (_, update):
        update.old_container_id = again
    return again


def _point_tag_at(run: Run, container_id: str) -> None:
    """Let the local tag name what runs, for those who start containers by hand."""
    reference = parse_reference(run.bot.image)
    if run.update.verdict is Verdict.FAILED and reference.tag:
        image = run.engine.inspect_container(container_id)["Image"]
        run.hand().tag(image, reference.name, reference.tag, force=True)

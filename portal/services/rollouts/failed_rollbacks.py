"""Failed rollbacks that an operator lets a worker continue. Used by the bot page and `flotilla bots recover`.

The update of the rollback is running again, so a worker takes it over like the update of a worker that died. The bot
keeps its mark "needs attention" until the rollback is complete.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotUpdate,
    EventTag,
    Snapshot,
    SnapshotState,
    UpdateState,
    Verdict,
    move,
)
from portal.services import events
from portal.services.errors import ConflictError
from portal.services.events import Actor
from portal.services.orgs import orgs
from portal.services.rollouts.outcomes import ROLLBACK_FAILED_TOO


def find_refusal(session: Session, bot: Bot) -> ConflictError | None:
    """Return why the failed rollback of a bot cannot be continued, as far as the database knows; None if it can."""
    if bot.phase is not BotPhase.ACTIVE or bot.needs_attention is None:
        return ConflictError(f"{bot.name} does not need attention.")
    if is_continuing(session, bot):
        return ConflictError(f"The rollback of {bot.name} is being continued already.")
    update = _find_update(session, bot)
    if update is None:
        return ConflictError(f"{bot.name} has no failed rollback that could be continued.")
    if update.old_container_id != bot.container_id:
        return ConflictError(f"{bot.name} has another container since the rollback failed. Mark it as fixed instead.")
    if lost := _list_lost_archives(session, update):
        volumes = ", ".join(lost)
        return ConflictError(
            f"There is no verified archive of the volume {volumes}, so the data cannot be restored. Repair the bot by"
            " hand, then mark it as fixed."
        )
    return None


def is_continuing(session: Session, bot: Bot) -> bool:
    """Return whether the failed rollback of a bot that needs attention is being continued."""
    running = sa.select(BotUpdate.id).where(BotUpdate.bot_id == bot.id, BotUpdate.is_running())
    return bot.needs_attention is not None and session.scalar(running) is not None


def request(session: Session, bot: Bot, *, now: datetime, actor: Actor) -> BotUpdate:
    """Let a worker continue the failed rollback of a bot.

    Args:
        session: a writing transaction.
        bot: the bot.
        now: the moment.
        actor: the operator; None for the command line.

    Returns:
        The update of the rollback, for the job `update_bot`.

    Raises:
        ConflictError: `find_refusal` has a reason, another request was faster, or the organization is being deleted.
    """
    orgs.lock_active_org(session, bot.org_id)
    session.refresh(bot, with_for_update=True)
    refusal = find_refusal(session, bot)
    update = _find_update(session, bot)
    if refusal is not None or update is None or not _resume(session, update, now):
        raise refusal or ConflictError(f"The rollback of {bot.name} is being continued already.")
    events.record(
        session,
        EventTag.BOT_RECOVERY_REQUESTED,
        actor=actor,
        org_id=bot.org_id,
        bot_id=bot.id,
        rollout_id=update.rollout_id,
    )
    return update


def _find_update(session: Session, bot: Bot) -> BotUpdate | None:
    """Return the update whose rollback failed last."""
    return session.scalar(
        sa.select(BotUpdate)
        .where(BotUpdate.bot_id == bot.id, BotUpdate.state == UpdateState.NEEDS_ATTENTION)
        .order_by(BotUpdate.ended_at.desc())
        .limit(1)
    )


def _list_lost_archives(session: Session, update: BotUpdate) -> list[str]:
    """List the volumes that a rollback has to restore and that have no verified archive."""
    if update.verdict is not Verdict.FAILED:
        return []  # the new container never ran, so the volumes are untouched
    lost = Snapshot.state.in_({SnapshotState.TAKING, SnapshotState.DELETED})
    query = sa.select(Snapshot.volume).where(Snapshot.update_id == update.id, lost)
    return list(session.scalars(query.order_by(Snapshot.volume)))


def _resume(session: Session, update: BotUpdate, now: datetime) -> bool:
    return move(
        session,
        update,
        UpdateState.NEEDS_ATTENTION,
        UpdateState.RUNNING,
        error=(update.error or "").removesuffix(ROLLBACK_FAILED_TOO) or None,
        # The planner pauses a rollout whose steps take too long, and an engine in trouble gets a limited time. Both
        # times begin again.
        timings=update.timings | ({update.step: [now.isoformat()]} if update.step else {}),
        journal={key: value for key, value in update.journal.items() if key != "trouble"},
        ended_at=None,
    )

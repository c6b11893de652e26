"""The update hours in which waiting updates of an organization's bots start. Used by its pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Audience, BotUpdate, FleetMode, NodeState, Rollout, RolloutState, UpdateState
from portal.rules import windows
from portal.rules.windows import Window
from portal.services import fleet_settings
from portal.services.bots.bot_list import BotRow
from portal.services.rollouts import eligibility
from portal.services.rollouts.eligibility import Candidate


def map_windows(session: Session, rows: Sequence[BotRow], now: datetime) -> dict[str, Window]:
    """Return the window of each bot whose update waits for its update hour, by the id of the bot.

    These are the bots that wait in a rollout that respects update hours, and those that automatic updates are going
    to update. The number of statements does not depend on the number of bots.

    Args:
        session: the transaction.
        rows: the bots.
        now: the current moment.
    """
    if fleet_settings.get_settings(session).mode is FleetMode.PAUSED:
        return {}
    outdated = [row for row in rows if row.available is not None]
    candidates = {found.bot.id: found for found in eligibility.load_named(session, [row.bot.id for row in outdated])}
    failed = _list_failed(session, list(candidates))
    return {
        row.bot.id: windows.next_window(candidates[row.bot.id].hour_utc, now)
        for row in outdated
        if _waits_for_its_hour(row, candidates[row.bot.id], failed, now)
    }


def _waits_for_its_hour(row: BotRow, candidate: Candidate, failed: set[tuple[str, str]], now: datetime) -> bool:
    update = row.update
    if update is not None and update.state is UpdateState.PENDING:
        rollout = update.rollout
        is_due = rollout.ignore_windows or windows.is_open(candidate.hour_utc, now)
        return not is_due and rollout.state is not RolloutState.PAUSED
    if row.available is None or (row.bot.id, row.available.id) in failed:
        return False
    if candidate.bot.node.state is not NodeState.ACTIVE:
        return False
    return eligibility.exclusion_reason(candidate, row.available, Audience.AUTOMATIC) is None


def _list_failed(session: Session, bot_ids: Sequence[str]) -> set[tuple[str, str]]:
    """List bots with the releases that failed on them, which automatic updates do not try again."""
    query = (
        sa.select(BotUpdate.bot_id, Rollout.release_id)
        .join(BotUpdate.rollout)
        .where(
            BotUpdate.bot_id.in_(bot_ids),
            BotUpdate.state.in_(sorted(eligibility.FAILED_STATES)),
            ~BotUpdate.transient,
        )
    )
    return {(bot_id, release_id) for bot_id, release_id in session.execute(query)}

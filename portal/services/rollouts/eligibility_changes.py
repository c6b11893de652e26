"""Changes of bots that concern open rollouts: bots that are no longer eligible, and skipped bots that are again.

Used by the orchestrator. The queries start from the bots for which something has changed, so that their cost does not
follow the number of bots of a rollout. `eligibility.exclusion_reason` decides about each bot that they find.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Org,
    Rollout,
    SkipReason,
    Trigger,
    UpdateState,
)
from portal.services.rollouts import eligibility
from portal.services.rollouts.eligibility import Candidate
from portal.services.rollouts.fleet_facts import FleetFacts

_NOT_RUNNING = (BotState.STOPPED, BotState.MISSING)
_AT_ONCE = 1000
"""Changes per tick. The claim of an update checks again, so the others cannot start until then."""


@dataclass
class EligibilityChanges:
    """Updates of one rollout that have to change, by their ids."""

    ineligible: dict[SkipReason, list[str]] = field(default_factory=dict)
    """Waiting updates to skip."""
    restarted: list[str] = field(default_factory=list)
    """Updates that were skipped because the bot was stopped, and whose bot runs again or is being started."""

    def __bool__(self) -> bool:
        """Return whether there are any changes."""
        return bool(self.ineligible or self.restarted)


def find_changes(
    session: Session, rollouts: Sequence[Rollout], waiting: Collection[str], fleet: FleetFacts
) -> Mapping[str, EligibilityChanges]:
    """Find the changes of open rollouts, by the id of the rollout.

    Args:
        session: the transaction.
        rollouts: the rollouts.
        waiting: ids of those that have waiting bots.
        fleet: the fleet.
    """
    changes = {rollout.id: EligibilityChanges() for rollout in rollouts}
    with_waiting = [rollout for rollout in rollouts if rollout.id in waiting]
    suspects = session.execute(_select_suspects(with_waiting, fleet)).all() if with_waiting else []
    restarted = session.execute(_select_restarted(list(changes))).all() if changes else []
    bot_ids = {row.bot_id for row in (*suspects, *restarted)}
    candidates = {found.bot.id: found for found in eligibility.load_named(session, bot_ids)} if bot_ids else {}
    by_id = {rollout.id: rollout for rollout in rollouts}
    for row in suspects:
        reason = _find_reason(candidates[row.bot_id], by_id[row.rollout_id], fleet)
        if reason is not None:
            changes[row.rollout_id].ineligible.setdefault(reason, []).append(row.id)
    for row in restarted:
        rollout = by_id[row.rollout_id]
        if _runs_again(candidates[row.bot_id], rollout):
            changes[row.rollout_id].restarted.append(row.id)
    return changes


def _find_reason(candidate: Candidate, rollout: Rollout, fleet: FleetFacts) -> SkipReason | None:
    reason = eligibility.exclusion_reason(candidate, rollout.release, rollout.audience)
    if reason is SkipReason.STOPPED and candidate.bot.is_being_started:
        reason = None  # it waits
    if reason is None and _follows_tags(rollout):
        target = fleet.targets.get(candidate.bot.image)
        if target is None or target.id != rollout.release_id:
            return SkipReason.SUPERSEDED
    return reason


def _runs_again(candidate: Candidate, rollout: Rollout) -> bool:
    reason = eligibility.exclusion_reason(candidate, rollout.release, rollout.audience)
    return candidate.bot.is_being_started if reason is SkipReason.STOPPED else reason is None


def _follows_tags(rollout: Rollout) -> bool:
    return rollout.trigger is Trigger.AUTO and rollout.audience is Audience.AUTOMATIC


def _select_suspects(rollouts: Sequence[Rollout], fleet: FleetFacts) -> sa.Select[Any]:
    """Select the waiting updates whose bots may no longer be eligible."""
    ids = [rollout.id for rollout in rollouts]
    named = [rollout.id for rollout in rollouts if rollout.audience is Audience.NAMED]
    keeps_version = (Bot.release_channel == Channel.PINNED) | Bot.held_until.is_not(None)
    inactive = Bot.org_id.in_(sa.select(Org.id).where(Org.is_inactive()))
    suspects = [
        _select_waiting(ids, Bot.select_exceptional().where(_is_exceptional())),
        _select_waiting(sorted({*ids} - {*named}), Bot.select_exceptional().where(keeps_version)),
        _select_waiting(ids, sa.select(Bot.id).where(inactive)),
        *(_select_waiting([rollout.id], _select_updated(rollout)) for rollout in rollouts),
        *(
            _select_waiting([rollout.id], left)
            for rollout in rollouts
            if rollout.audience is Audience.AUTOMATIC
            for left in (_select_left(rollout, fleet), _select_declined(rollout))
        ),
    ]
    found = sa.union(*suspects).subquery()
    return sa.select(found).limit(_AT_ONCE)


def _select_waiting(rollout_ids: Sequence[str], bot_ids: sa.Select[str]) -> sa.Select[str, str, str]:
    # An index contains all these columns, so this reads no row of a bot that is not selected.
    return sa.select(BotUpdate.id, BotUpdate.rollout_id, BotUpdate.bot_id).where(
        BotUpdate.rollout_id.in_(rollout_ids),
        BotUpdate.state == UpdateState.PENDING,
        BotUpdate.bot_id.in_(bot_ids),
    )


def _is_exceptional() -> sa.ColumnElement[bool]:
    return sa.or_(
        Bot.phase != BotPhase.ACTIVE,
        Bot.needs_attention.is_not(None),
        Bot.desired_state == DesiredState.STOPPED,
        sa.and_(Bot.state.in_(_NOT_RUNNING), ~Bot.is_being_started),
    )


def _select_updated(rollout: Rollout) -> sa.Select[str]:
    """Select the bots that run the release already."""
    return sa.select(Bot.id).where(Bot.current_digest.in_(sorted(rollout.release.digests)))


def _select_left(rollout: Rollout, fleet: FleetFacts) -> sa.Select[str]:
    """Select the bots whose organization is manual now, or which follow another release."""
    left = [~eligibility.is_automatic(fleet.settings)]
    if _follows_tags(rollout):
        left.append(Bot.image.not_in(fleet.list_images(rollout.release)))
    return sa.select(Bot.id).where(sa.or_(*left))


def _select_declined(rollout: Rollout) -> sa.Select[str]:
    """Select the bots whose organization skips the release, from a partial index."""
    return sa.select(Bot.id).where(Bot.skipped_release_id == rollout.release_id)


def _select_restarted(rollout_ids: Sequence[str]) -> sa.Select[str, str, str]:
    """Select the updates of bots that were stopped, and which run again or are being started."""
    # A check from before the end of the update may be outdated.
    was_checked = sa.or_(BotUpdate.ended_at.is_(None), Bot.checked_at > BotUpdate.ended_at)
    runs = sa.and_(Bot.desired_state == DesiredState.RUNNING, Bot.state.not_in(_NOT_RUNNING), was_checked)
    return (
        sa.select(BotUpdate.id, BotUpdate.rollout_id, BotUpdate.bot_id)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(
            BotUpdate.rollout_id.in_(rollout_ids),
            BotUpdate.is_skipped_while_stopped(),
            BotUpdate.state == UpdateState.SKIPPED,
            Bot.is_active(),
            sa.or_(runs, Bot.is_being_started),
        )
        .limit(_AT_ONCE)
    )

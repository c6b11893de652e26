"""Automatic rollouts: one open rollout per release, which eligible bots join. Used by the orchestrator."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    EventTag,
    FleetMode,
    PolledImage,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    Trigger,
    UpdateState,
)
from portal.rules.strategies import parse_parameters
from portal.services import events, fleet_settings
from portal.services.rollouts import eligibility, rollouts
from portal.services.rollouts.eligibility import Candidate
from portal.services.rollouts.planner_input import PlannedUpdate


def open_rollouts(session: Session) -> None:
    """Open a rollout for each release that bots on automatic updates should run but do not run.

    A release whose automatic rollout is open or was aborted gets no second one, until an operator lifts the
    quarantine of the release. Operators can roll the release out at any time.
    """
    settings = fleet_settings.get_settings(session)
    if settings.mode is not FleetMode.AUTO:
        return
    for release in eligibility.load_outdated_automatic(session):
        if not _is_open_or_aborted(session, release):
            rollout = Rollout(
                release=release,
                strategy=settings.strategy,
                parameters=parse_parameters(settings.strategy, settings.parameters),
                trigger=Trigger.AUTO,
                audience=Audience.AUTOMATIC,
            )
            session.add(rollout)
            session.flush()
            data = {"digest": release.digest, "version": release.version, "image": release.image}
            events.record(session, EventTag.ROLLOUT_STARTED, rollout_id=rollout.id, data=data | {"automatic": True})


def list_joinable(session: Session, rollout: Rollout) -> list[Candidate]:
    """List the outdated bots that should run the release and have no open update."""
    return eligibility.load_outdated_automatic(session).get(rollout.release, [])


def add_new_bots(
    session: Session, rollout: Rollout, planned: list[PlannedUpdate], candidates: list[Candidate]
) -> int:
    """Add the candidates that are not in the rollout yet, and return their number."""
    known = {entry.candidate.bot.id for entry in planned}
    new = [candidate for candidate in candidates if candidate.bot.id not in known]
    rollouts.add_bots(session, rollout, new)
    return len(new)


def list_rejoinable(planned: list[PlannedUpdate], candidates: list[Candidate]) -> list[BotUpdate]:
    """List updates that were skipped for a reason that no longer applies, such as the mode of the organization."""
    bot_ids = {candidate.bot.id for candidate in candidates}
    return [
        entry.update
        for entry in planned
        if entry.candidate.bot.id in bot_ids
        and entry.update.state is UpdateState.SKIPPED
        and entry.update.skip_reason is not SkipReason.STOPPED  # see `planner_input.list_restarted`
    ]


def find_newer_release(session: Session, rollout: Rollout) -> Release | None:
    """Find the release that supersedes this rollout, because tags of its bots point at that release.

    An automatic rollout follows the tags. A rollout of an operator is superseded only by a release that was found
    after the start of the rollout. A rollout of named bots is never superseded.
    """
    pointing = _list_pointed_at(session, rollout)
    others = [release for release in pointing if release.id != rollout.release_id]
    if rollout.trigger is Trigger.AUTO:
        return None if len(others) < len(pointing) or not others else others[0]
    if rollout.audience is Audience.NAMED:
        return None
    newer = [
        release for release in others if release.first_seen_at > rollout.created_at and release.quarantined_at is None
    ]
    return newer[0] if newer else None


def _list_pointed_at(session: Session, rollout: Rollout) -> list[Release]:
    """List the releases at which tags of bots in this rollout point, including quarantined ones, newest first."""
    pointed_at = (
        sa.select(PolledImage.release_id)
        .join(Bot, Bot.image == PolledImage.image)
        .join(BotUpdate, BotUpdate.bot_id == Bot.id)
        .where(BotUpdate.rollout_id == rollout.id)
    )
    query = sa.select(Release).where(Release.id.in_(pointed_at)).order_by(Release.first_seen_at.desc())
    return list(session.scalars(query))


def _is_open_or_aborted(session: Session, release: Release) -> bool:
    """Return whether an automatic rollout of the release is open, or was aborted after the last lifted quarantine."""
    aborted = Rollout.state == RolloutState.ABORTED
    if release.quarantine_lifted_at is not None:
        aborted &= Rollout.ended_at > release.quarantine_lifted_at
    query = sa.select(Rollout.id).where(
        Rollout.release_id == release.id,
        Rollout.trigger == Trigger.AUTO,
        sa.or_(Rollout.state.in_(Rollout.OPEN), aborted),
    )
    return session.scalar(query.limit(1)) is not None

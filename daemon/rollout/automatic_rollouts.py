"""Automatic rollouts: one open rollout per release, which bots join as soon as they should."""

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
    """Open a rollout for each release that bots in automatic mode should run and do not, unless it is open.

    One that was aborted is not opened anew by itself: a person decided so, or has to look. It may begin again once
    an operator has lifted the release's quarantine, and an operator can roll the release out at any time.
    """
    settings = fleet_settings.get_settings(session)
    if settings.mode is not FleetMode.AUTO:
        return
    for release in eligibility.load_outdated_automatic(session):
        if not _open_or_aborted(session, release):
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
    """Find the bots that should run the release, do not, and are in nobody's hands."""
    return eligibility.load_outdated_automatic(session).get(rollout.release, [])


def join_rollout(session: Session, rollout: Rollout, entries: list[PlannedUpdate], found: list[Candidate]) -> int:
    """Give bots that are not in the rollout yet their part in it, and tell how many joined."""
    known = {entry.candidate.bot.id for entry in entries}
    joining = [candidate for candidate in found if candidate.bot.id not in known]
    rollouts.add_bots(session, rollout, joining)
    return len(joining)


def list_rejoinable(entries: list[PlannedUpdate], found: list[Candidate]) -> list[BotUpdate]:
    """Find parts that were skipped for a reason that no longer holds, such as an organization's former mode."""
    ids = {candidate.bot.id for candidate in found}
    return [
        entry.update
        for entry in entries
        if entry.candidate.bot.id in ids
        and entry.update.state is UpdateState.SKIPPED
        and entry.update.skip_reason is not SkipReason.STOPPED  # judged by whether it was seen running since
    ]


def find_newer_release(session: Session, rollout: Rollout) -> Release | None:
    """Find the release that makes this rollout pointless, for what its bots follow has moved on.

    An automatic rollout follows the tags. One an operator started gives way only to a release that came out after
    it was started, and one of named bots to none.
    """
    pointing = _pointing(session, rollout)
    others = [release for release in pointing if release.id != rollout.release_id]
    if rollout.trigger is Trigger.AUTO:
        return None if len(others) < len(pointing) or not others else others[0]
    if rollout.audience is Audience.NAMED:
        return None
    newer = [
        release for release in others if release.first_seen_at > rollout.created_at and release.quarantined_at is None
    ]
    return newer[0] if newer else None


def _pointing(session: Session, rollout: Rollout) -> list[Release]:
    """Releases that the tags followed by bots of this rollout point at now, quarantined or not, the newest first."""
    pointed_at = (
        sa.select(PolledImage.release_id)
        .join(Bot, Bot.image == PolledImage.image)
        .join(BotUpdate, BotUpdate.bot_id == Bot.id)
        .where(BotUpdate.rollout_id == rollout.id)
    )
    query = sa.select(Release).where(Release.id.in_(pointed_at)).order_by(Release.first_seen_at.desc())
    return list(session.scalars(query))


def _open_or_aborted(session: Session, release: Release) -> bool:
    aborted = Rollout.state == RolloutState.ABORTED
    if release.quarantine_lifted_at is not None:
        aborted &= Rollout.ended_at > release.quarantine_lifted_at
    query = sa.select(Rollout.id).where(
        Rollout.release_id == release.id,
        Rollout.trigger == Trigger.AUTO,
        sa.or_(Rollout.state.in_(Rollout.OPEN), aborted),
    )
    return session.scalar(query.limit(1)) is not None

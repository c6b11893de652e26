"""Automatic rollouts: one open rollout per release, which eligible bots join. Used by the orchestrator."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.rollout import decisions
from portal.database import Database
from portal.models import Audience, Bot, BotUpdate, EventTag, FleetMode, Release, Rollout, RolloutState, Trigger
from portal.rules.strategies import parse_parameters
from portal.services import events
from portal.services.rollouts import eligibility, rollouts
from portal.services.rollouts.fleet_facts import FleetFacts

_JOINING_AT_ONCE = 1000
"""Bots that join a rollout in one tick. More would hold up every process that writes to the database."""


def open_rollouts(database: Database, fleet: FleetFacts) -> None:
    """Open a rollout for each release that bots on automatic updates should run but do not run.

    A release whose automatic rollout is open or was aborted gets no second one, until an operator lifts the
    quarantine of the release. Operators can roll the release out at any time.
    """
    if fleet.settings.mode is not FleetMode.AUTO:
        return
    with database.reading() as session:
        missing = [release for release in _list_targets(fleet) if _is_rollout_missing(session, fleet, release)]
    for release in missing:
        with database.transaction() as session:
            _open_rollout(session, fleet, session.get_one(Release, release.id))


def has_joinable(session: Session, rollout: Rollout, fleet: FleetFacts) -> bool:
    """Return whether bots have to join an automatic rollout."""
    return bool(
        eligibility.list_joinable(session, fleet, rollout.release, 1, rollout)
        or eligibility.list_rejoinable(session, fleet, rollout, 1)
    )


def join_bots(session: Session, rollout: Rollout, fleet: FleetFacts) -> bool:
    """Add the bots that have become eligible, and return whether more have to join at the next tick.

    A bot whose update was skipped joins again when the reason no longer applies, such as the mode of its
    organization, and a bot whose update was interrupted joins again some hours later.
    """
    joining = eligibility.list_joinable(session, fleet, rollout.release, _JOINING_AT_ONCE, rollout)
    rejoining = eligibility.list_rejoinable(session, fleet, rollout, _JOINING_AT_ONCE)
    rollouts.add_bots(session, rollout, joining)
    decisions.requeue_ended(session, rejoining)
    return max(len(joining), len(rejoining)) == _JOINING_AT_ONCE


def find_newer_release(session: Session, rollout: Rollout, fleet: FleetFacts) -> Release | None:
    """Find the release that supersedes this rollout, because tags of its bots point at that release.

    An automatic rollout follows the tags. A rollout of an operator is superseded only by a release that was found
    after the start of the rollout. A rollout of named bots is never superseded.
    """
    if rollout.trigger is not Trigger.AUTO and rollout.audience is Audience.NAMED:
        return None
    own = [image for image, release in fleet.tags if release.id == rollout.release_id]
    if rollout.trigger is Trigger.AUTO and _has_bots(session, rollout, own):
        return None
    for image, release in fleet.tags:
        is_newer = release.first_seen_at > rollout.created_at and release.quarantined_at is None
        may_supersede = is_newer or rollout.trigger is Trigger.AUTO
        if release.id != rollout.release_id and may_supersede and _has_bots(session, rollout, [image]):
            return release
    return None


def _list_targets(fleet: FleetFacts) -> list[Release]:
    """List the releases at which tags point."""
    return list({release.id: release for release in fleet.targets.values()}.values())


def _is_rollout_missing(session: Session, fleet: FleetFacts, release: Release) -> bool:
    return not _is_open_or_aborted(session, release) and bool(
        eligibility.list_joinable(session, fleet, release, limit=1)
    )


def _open_rollout(session: Session, fleet: FleetFacts, release: Release) -> None:
    settings = fleet.settings
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


def _has_bots(session: Session, rollout: Rollout, images: Collection[str]) -> bool:
    """Return whether the rollout has bots that follow one of these images."""
    query = sa.select(BotUpdate.id).join(Bot, Bot.id == BotUpdate.bot_id)
    in_rollout = query.where(BotUpdate.rollout_id == rollout.id, Bot.image.in_(images))
    return bool(images) and session.scalar(in_rollout.limit(1)) is not None


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

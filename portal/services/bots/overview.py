"""Overview of the fleet: open rollouts, failures, bots that need attention. Used by the start page of operators."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased, defer, joinedload

from portal.models import (
    Bot,
    BotPhase,
    BotRequest,
    BotState,
    BotUpdate,
    DesiredState,
    Event,
    Node,
    NodeState,
    PolledImage,
    Release,
    Rollout,
    RolloutState,
    UpdateState,
)
from portal.services.bots import bot_requests, fleet_status, platform_health
from portal.services.bots.fleet_status import FleetStatus, ImageStatus
from portal.services.bots.platform_health import PlatformHealth

FAILED_WITHIN = timedelta(days=7)
"""Age up to which failed updates are shown."""
_MAX_ROWS = 20
_REFRESH = timedelta(seconds=30)
Row = TypeVar("Row")
_FAILED = (UpdateState.FAILED, UpdateState.ROLLED_BACK)


@dataclass(frozen=True)
class Overview:
    """State of the fleet. Every list has at most 20 rows."""

    rollouts: Sequence[Rollout]
    """Rollouts that have not ended."""
    failed: Sequence[BotUpdate]
    """The last failed update of each bot in the last week, until a later update of the bot succeeds."""
    aborted: Sequence[Rollout]
    """Rollouts that were aborted in the last week."""
    quarantined: Sequence[Release]
    """Releases that were quarantined in the last week, and still are."""
    needing_attention: Sequence[Bot]
    """Bots whose rollback failed. Archives and old container are kept until an operator clears the bot."""
    down: Sequence[Bot]
    """Bots that should run but do not: stopped, gone, or without a healthy answer."""
    nodes: Sequence[Node]
    """Nodes whose engine does not answer."""
    creations: Sequence[Bot]
    """Bots whose creation has failed so far."""
    requests: Sequence[BotRequest]
    """New organizations whose first bot could not be created yet."""
    images: Sequence[PolledImage]
    """Images that bots follow and whose last poll failed."""
    fleet: FleetStatus
    health: PlatformHealth

    @property
    def paused(self) -> list[Rollout]:
        """Paused rollouts, which an operator has to resume or abort."""
        return [rollout for rollout in self.rollouts if rollout.state is RolloutState.PAUSED]

    @property
    def all_clear(self) -> bool:
        """Whether nothing needs an operator."""
        lists = (self.paused, self.needing_attention, self.down, self.nodes, self.images)
        counts = (self.health.failed_mails, self.health.blocked_syncs)
        return not any((*lists, self.creations, self.requests, *counts))

    @property
    def outdated_images(self) -> list[ImageStatus]:
        """Images with bots that do not run the release at which the tag points."""
        return [image for image in self.fleet.images if image.behind]

    def find_open_rollout(self, release: Release) -> Rollout | None:
        """Return a rollout of this release that has not ended."""
        return next((rollout for rollout in self.rollouts if rollout.release_id == release.id), None)


def load_overview(session: Session, now: datetime) -> Overview:
    """Load the overview as of `now`."""
    # A bot that is being removed is not repaired.
    exceptional = Bot.id.in_(Bot.select_exceptional())
    needs_repair = exceptional & Bot.needs_attention.is_not(None) & (Bot.phase == BotPhase.ACTIVE)
    # The page of releases shows a pasted digest that was not found; no bot depends on it.
    failing_images = sa.select(PolledImage).where(PolledImage.errors > 0, ~PolledImage.asked_once)
    return Overview(
        rollouts=_list(
            session,
            sa.select(Rollout)
            .where(Rollout.state.in_(Rollout.OPEN))
            .options(joinedload(Rollout.release), joinedload(Rollout.starter))
            .order_by(Rollout.created_at.desc()),
        ),
        failed=_failed_updates(session, now),
        aborted=_aborted_rollouts(session, now),
        quarantined=_quarantined_releases(session, now),
        needing_attention=_list(session, _bots().where(needs_repair)),
        down=list_down(session),
        nodes=_list(session, sa.select(Node).where(Node.state == NodeState.OFFLINE).order_by(Node.name)),
        images=_list(session, failing_images.order_by(PolledImage.image)),
        creations=_list(session, _bots().where(_is_creation_failing())),
        requests=bot_requests.list_waiting(session, _MAX_ROWS),
        fleet=fleet_status.load_status(session, now),
        health=platform_health.load_health(session),
    )


def find_version(session: Session, now: datetime) -> str:
    """Return the version of the overview, with which a poll is answered before anything is loaded.

    Changes of state are events, and updates that begin or end change the running ones. What has neither, such as the
    moment of a node's last answer, is shown after `_REFRESH` at the latest.

    Args:
        session: the transaction.
        now: the moment.
    """
    running = session.scalars(sa.select(BotUpdate.id).where(BotUpdate.is_running()).order_by(BotUpdate.id)).all()
    newest = session.scalar(sa.select(sa.func.max(Event.id)))
    facts = (newest, running, int(now.timestamp() // _REFRESH.total_seconds()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def list_down(session: Session) -> Sequence[Bot]:
    """List bots that should run but do not, except those that need attention, at most 20."""
    is_down = sa.and_(
        Bot.id.in_(Bot.select_exceptional()),
        Bot.phase == BotPhase.ACTIVE,
        Bot.state.in_({BotState.UNHEALTHY, BotState.STOPPED, BotState.MISSING}),
        Bot.desired_state == DesiredState.RUNNING,
        Bot.needs_attention.is_(None),
    )
    return _list(session, _bots().where(is_down))


def _bots() -> sa.Select[Bot]:
    secrets = (defer(Bot.spec), defer(Bot.provision_secret))
    return sa.select(Bot).options(joinedload(Bot.org), joinedload(Bot.node), *secrets).order_by(Bot.name)


def _is_creation_failing() -> sa.ColumnElement[bool]:
    exceptional = Bot.id.in_(Bot.select_exceptional())
    return exceptional & (Bot.phase == BotPhase.CREATING) & Bot.creation_error.is_not(None)


def _failed_updates(session: Session, now: datetime) -> Sequence[BotUpdate]:
    later = aliased(BotUpdate)
    has_later_update = (
        sa.select(later.id)
        .where(
            later.bot_id == BotUpdate.bot_id,
            later.created_at > BotUpdate.created_at,
            later.state.in_([UpdateState.UPDATED, *_FAILED]),
        )
        .exists()
    )
    return _list(
        session,
        sa.select(BotUpdate)
        .where(BotUpdate.state.in_(_FAILED), BotUpdate.ended_at > now - FAILED_WITHIN, ~has_later_update)
        .options(
            joinedload(BotUpdate.bot).options(joinedload(Bot.org), defer(Bot.spec), defer(Bot.provision_secret)),
            joinedload(BotUpdate.rollout).joinedload(Rollout.release),
            *(defer(BotUpdate.saved_container), defer(BotUpdate.journal)),
            *(defer(BotUpdate.timings), defer(BotUpdate.log_tail)),
        )
        .order_by(BotUpdate.ended_at.desc()),
    )


def _aborted_rollouts(session: Session, now: datetime) -> Sequence[Rollout]:
    return _list(
        session,
        sa.select(Rollout)
        .where(Rollout.state == RolloutState.ABORTED, Rollout.ended_at > now - FAILED_WITHIN)
        .options(joinedload(Rollout.release))
        .order_by(Rollout.ended_at.desc()),
    )


def _quarantined_releases(session: Session, now: datetime) -> Sequence[Release]:
    recent = Release.quarantined_at > now - FAILED_WITHIN
    return _list(session, sa.select(Release).where(recent).order_by(Release.quarantined_at.desc()))


def _list(session: Session, query: sa.Select[Row]) -> Sequence[Row]:
    return session.scalars(query.limit(_MAX_ROWS)).all()

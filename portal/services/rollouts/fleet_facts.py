"""What a tick has to know about the whole fleet: settings, nodes, running updates. Used by the orchestrator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotUpdate, FleetMode, FleetSettings, Node, NodeState, PolledImage, Release
from portal.services import fleet_settings


class RunningUpdate(NamedTuple):
    """An update that a worker has begun and not ended."""

    rollout_id: str
    bot_id: str
    node_id: str


@dataclass(frozen=True, kw_only=True)
class FleetFacts:
    """The fleet at the moment of a tick."""

    now: datetime
    health_check_timeout: timedelta | None
    """The setting of this installation, if given."""
    settings: FleetSettings
    active_nodes: frozenset[str]
    inactive_nodes: frozenset[str]
    """Nodes that accept no updates."""
    running: Sequence[RunningUpdate]
    """The running updates of all rollouts."""
    being_started: Sequence[str]
    """The bots that stopped without a request and are being started."""
    tags: Sequence[tuple[str, Release]]
    """Each polled image and the release at which its tag points, including quarantined ones, newest release first."""

    @property
    def is_paused(self) -> bool:
        """Whether no update may start."""
        return self.settings.mode is FleetMode.PAUSED

    @property
    def targets(self) -> dict[str, Release]:
        """The target of each polled image: the release at which its tag points, unless that is quarantined."""
        return {image: release for image, release in self.tags if release.quarantined_at is None}

    def count_running_per_node(self) -> Counter[str]:
        """Count the running updates of each node."""
        return Counter(update.node_id for update in self.running)

    def list_images(self, release: Release) -> list[str]:
        """List the images whose target is this release."""
        return [image for image, target in self.targets.items() if target.id == release.id]


def load_fleet(session: Session, now: datetime, health_check_timeout: timedelta | None) -> FleetFacts:
    """Load the facts.

    Args:
        session: the transaction.
        now: the moment, for windows and pauses.
        health_check_timeout: the setting of this installation, if given.
    """
    states = dict(session.execute(sa.select(Node.id, Node.state)).all())
    active = frozenset(node_id for node_id, state in states.items() if state is NodeState.ACTIVE)
    running = sa.select(BotUpdate.rollout_id, BotUpdate.bot_id, Bot.node_id).join(BotUpdate.bot)
    tags = sa.select(PolledImage.image, Release).join(PolledImage.release)
    newest_first = (Release.first_seen_at.desc(), PolledImage.image)
    return FleetFacts(
        now=now,
        health_check_timeout=health_check_timeout,
        settings=fleet_settings.get_settings(session),
        active_nodes=active,
        inactive_nodes=frozenset(states) - active,
        running=[RunningUpdate(*row) for row in session.execute(running.where(BotUpdate.is_running()))],
        being_started=session.scalars(Bot.select_exceptional().where(Bot.is_being_started)).all(),
        tags=[(image, release) for image, release in session.execute(tags.order_by(*newest_first))],
    )

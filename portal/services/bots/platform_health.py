"""Health of what the fleet depends on: registries, nodes, scheduler, mail, member sync. Used by the overview."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import MailState, Node, NodeState, OutgoingMail, PolledImage
from portal.services import leases
from portal.services.syncs import bot_states


@dataclass(frozen=True)
class PlatformHealth:
    """Numbers and moments from which a page tells what works.

    Attributes:
        images: number of polled images.
        failing_images: number of those whose last poll failed.
        checked_at: when an image was last polled successfully.
        nodes: number of nodes.
        offline_nodes: number of those whose engine does not answer.
        answered_at: the oldest last answer of all nodes that are online.
        is_scheduling: whether a scheduler leads.
        waiting_mails: number of emails that wait to be sent.
        failed_mails: number of emails that could not be delivered.
        unsynced_bots: number of bots to which changes of members have to be sent.
        blocked_syncs: number of bots whose member sync needs an operator.
    """

    images: int
    failing_images: int
    checked_at: datetime | None
    nodes: int
    offline_nodes: int
    answered_at: datetime | None
    is_scheduling: bool
    waiting_mails: int
    failed_mails: int
    unsynced_bots: int
    blocked_syncs: int


def load_health(session: Session) -> PlatformHealth:
    """Load the health of the platform."""
    images, nodes = _count_images(session), _count_nodes(session)
    mails = sa.select(OutgoingMail.state, sa.func.count()).group_by(OutgoingMail.state)
    kept = (MailState.PENDING, MailState.SENDING, MailState.FAILED)
    counts = dict(session.execute(mails.where(OutgoingMail.state.in_(kept))).all())
    unsynced = sa.select(sa.func.count()).select_from(bot_states.select_unsynced())
    return PlatformHealth(
        images=images.number,
        failing_images=images.failing or 0,
        checked_at=images.checked_at,
        nodes=nodes.number,
        offline_nodes=nodes.offline or 0,
        answered_at=nodes.answered_at,
        is_scheduling=leases.is_held(session, leases.SCHEDULER),
        waiting_mails=counts.get(MailState.PENDING, 0) + counts.get(MailState.SENDING, 0),
        failed_mails=counts.get(MailState.FAILED, 0),
        unsynced_bots=session.scalar(unsynced) or 0,
        blocked_syncs=bot_states.count_blocked(session),
    )


def _count_images(session: Session) -> sa.Row[Any]:
    query = sa.select(
        sa.func.count().label("number"),
        sa.func.sum(sa.case((PolledImage.errors > 0, 1), else_=0)).label("failing"),
        sa.func.max(PolledImage.last_checked_at).label("checked_at"),
    )
    return session.execute(query.where(~PolledImage.asked_once)).one()


def _count_nodes(session: Session) -> sa.Row[Any]:
    is_offline = Node.state == NodeState.OFFLINE
    return session.execute(
        sa.select(
            sa.func.count().label("number"),
            sa.func.sum(sa.case((is_offline, 1), else_=0)).label("offline"),
            sa.func.min(sa.case((~is_offline, Node.last_seen_at))).label("answered_at"),
        )
    ).one()

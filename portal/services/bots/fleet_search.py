"""Search of bots by text, condition, place and label, in any order. Used by the fleet page, its CSV and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import (
    Bot,
    BotLabel,
    BotPhase,
    BotState,
    BotUpdate,
    Channel,
    Node,
    Org,
    OrgState,
    Release,
    UpdateState,
)
from portal.services.bots import fleet_status
from portal.services.bots.bot_list import WITHOUT_SECRETS, BotRow, build_rows
from portal.services.paging import Page
from portal.services.releases import releases

BOTS_PER_PAGE = 100
_BOTS_PER_QUERY = 5000
"""Databases limit the number of values in a statement."""


class BotCondition(StrEnum):
    """Condition of a bot, by which the fleet is filtered."""

    ALL = "all"
    HEALTHY = "healthy"
    OUTDATED = "outdated"
    UPDATING = "updating"
    FAILED = "failed"
    UNHEALTHY = "unwell"
    STOPPED = "stopped"
    ATTENTION = "attention"
    HELD = "held"
    CREATING = "creating"
    REMOVING = "removing"


class FleetOrder(StrEnum):
    """Column by which the fleet is ordered."""

    ORG = "org"
    NAME = "name"
    STATE = "state"
    VERSION = "version"
    CHANNEL = "channel"
    NODE = "node"
    UPDATE = "update"


@dataclass(frozen=True, kw_only=True)
class FleetFilter:
    """Which bots are listed, and in which order. An empty field does not filter.

    Attributes:
        text: part of the name of the bot, its organization, its node, its image or its digest.
        show: the condition.
        image: the image that the bots follow.
        release: id of the release that the bots run.
        channel: the release channel.
        node: name of the node.
        org: slug of the organization.
        label: a label.
        order: the column of the order.
        descending: whether the order is reversed.
    """

    text: str = ""
    show: BotCondition = BotCondition.ALL
    image: str = ""
    release: str = ""
    channel: Channel | None = None
    node: str = ""
    org: str = ""
    label: str = ""
    order: FleetOrder = FleetOrder.ORG
    descending: bool = False

    @property
    def is_active(self) -> bool:
        """Whether any field filters; the order does not count."""
        unordered = (self.text, self.image, self.release, self.channel, self.node, self.org, self.label)
        return any(unordered) or self.show is not BotCondition.ALL


def search_bots(session: Session, fleet_filter: FleetFilter, now: datetime, page: int = 1) -> Page[BotRow]:
    """Return one page of the bots that match.

    Args:
        session: the transaction.
        fleet_filter: which bots, in which order.
        now: the moment, for failures of the last day.
        page: page number from 1, with `BOTS_PER_PAGE` bots each; a number beyond the last page means the last page.
    """
    # Ids are read once, from an index. Counting first and reading a page afterwards would search twice.
    ids = session.scalars(_select_ids(session, fleet_filter, now)).all()
    pages = max(1, -(-len(ids) // BOTS_PER_PAGE))
    page = max(1, min(page, pages))
    shown = ids[(page - 1) * BOTS_PER_PAGE : page * BOTS_PER_PAGE]
    return Page(build_rows(session, _load_bots(session, shown)), len(ids), page, pages)


def list_all(session: Session, fleet_filter: FleetFilter, now: datetime) -> list[BotRow]:
    """Return all bots that match, for exports."""
    ids = session.scalars(_select_ids(session, fleet_filter, now)).all()
    groups = (ids[start : start + _BOTS_PER_QUERY] for start in range(0, len(ids), _BOTS_PER_QUERY))
    return [row for group in groups for row in build_rows(session, _load_bots(session, group))]


def list_nodes(session: Session) -> Sequence[str]:
    """List the names of all nodes."""
    return session.scalars(sa.select(Node.name).order_by(Node.name)).all()


def _load_bots(session: Session, ids: Sequence[str]) -> list[Bot]:
    """Load these bots in this order."""
    related = (joinedload(Bot.org), joinedload(Bot.node))
    found = session.scalars(sa.select(Bot).where(Bot.id.in_(ids)).options(*related, *WITHOUT_SECRETS))
    by_id = {bot.id: bot for bot in found}
    return [by_id[bot_id] for bot_id in ids]


def _select_ids(session: Session, fleet_filter: FleetFilter, now: datetime) -> sa.Select[str]:
    conditions = _build_conditions(session, fleet_filter, now)
    return (
        sa.select(Bot.id)
        .join(Bot.org)
        .where(Org.state != OrgState.DELETED, Bot.phase != BotPhase.REMOVED, *conditions)
        .order_by(*_build_order(session, fleet_filter))
    )


def _build_conditions(session: Session, fleet_filter: FleetFilter, now: datetime) -> Sequence[sa.ColumnElement[bool]]:
    conditions = [_matches_text(fleet_filter.text.strip()), _matches_condition(session, fleet_filter.show, now)]
    if fleet_filter.image:
        conditions.append(Bot.image == fleet_filter.image)
    if fleet_filter.release:
        conditions.append(_runs_release(session, fleet_filter.release))
    if fleet_filter.channel:
        conditions.append(Bot.release_channel == fleet_filter.channel)
    if fleet_filter.node:
        conditions.append(Bot.node_id.in_(sa.select(Node.id).where(Node.name == fleet_filter.node)))
    if fleet_filter.org:
        conditions.append(Org.slug == fleet_filter.org)
    if fleet_filter.label:
        conditions.append(Bot.id.in_(sa.select(BotLabel.bot_id).where(BotLabel.label == fleet_filter.label)))
    return conditions


def _build_order(session: Session, fleet_filter: FleetFilter) -> Sequence[sa.ColumnElement[Any]]:
    if fleet_filter.order is FleetOrder.ORG:
        # The order of two indexes, so that the database has nothing to sort.
        columns = (Org.name, Org.id, Bot.name, Bot.id)
        return [column.desc() if fleet_filter.descending else column.asc() for column in columns]
    by_version = fleet_filter.order is FleetOrder.VERSION
    order = _order_by_version(session) if by_version else _ORDERS[fleet_filter.order]
    # The databases differ in where they put missing values.
    first = order.desc().nulls_last() if fleet_filter.descending else order.asc().nulls_first()
    return [first, Org.name.asc(), Bot.name.asc(), Bot.id.asc()]


_ORDERS = {
    FleetOrder.NAME: sa.type_coerce(Bot.name, sa.String),
    FleetOrder.STATE: sa.case({name: position for position, name in enumerate(BotState)}, value=Bot.state),
    FleetOrder.CHANNEL: sa.case({name: position for position, name in enumerate(Channel)}, value=Bot.release_channel),
    FleetOrder.NODE: sa.select(Node.name).where(Node.id == Bot.node_id).correlate(Bot).scalar_subquery(),
    FleetOrder.UPDATE: sa.select(sa.func.max(BotUpdate.created_at))
    .where(BotUpdate.bot_id == Bot.id, BotUpdate.state != UpdateState.SKIPPED)
    .correlate(Bot)
    .scalar_subquery(),
}


def _order_by_version(session: Session) -> sa.ColumnElement[int]:
    """Return the position of the bot's release by the moment it was first seen; unknown releases come first."""
    known = session.scalars(sa.select(Release).order_by(Release.first_seen_at)).all()
    positions = {digest: position for position, release in enumerate(known) for digest in release.digests}
    digests = session.scalars(sa.select(Bot.current_digest).distinct())
    used = {digest: positions[digest] for digest in digests if digest in positions}
    return sa.case(used, value=Bot.current_digest, else_=-1) if used else sa.literal(-1)


def _runs_release(session: Session, release_id: str) -> sa.ColumnElement[bool]:
    release = session.get(Release, release_id)
    return sa.false() if release is None else Bot.current_digest.in_(sorted(release.digests))


def _matches_text(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    columns = (Bot.name, Org.name, Org.slug, Bot.image, Bot.current_digest)
    on_node = Bot.node_id.in_(sa.select(Node.id).where(Node.name.icontains(text, autoescape=True)))
    return sa.or_(on_node, *(column.icontains(text, autoescape=True) for column in columns))


def _matches_condition(session: Session, condition: BotCondition, now: datetime) -> sa.ColumnElement[bool]:
    match condition:
        case BotCondition.ALL:
            return sa.true()
        case BotCondition.HEALTHY:
            return fleet_status.is_healthy()
        case BotCondition.OUTDATED:
            return _is_outdated(releases.map_targets(session))
        case BotCondition.UPDATING:
            return Bot.id.in_(sa.select(BotUpdate.bot_id).where(BotUpdate.is_running()))
        case BotCondition.FAILED:
            return Bot.id.in_(fleet_status.select_failed(now))
        case _:
            return _EXCEPTIONS[condition] & Bot.id.in_(Bot.select_exceptional())


_EXCEPTIONS = {
    BotCondition.UNHEALTHY: Bot.is_active() & Bot.state.in_(fleet_status.UNHEALTHY_STATES),
    BotCondition.STOPPED: Bot.is_active() & (Bot.state == BotState.STOPPED),
    BotCondition.ATTENTION: Bot.is_active() & Bot.needs_attention.is_not(None),
    BotCondition.HELD: Bot.is_active() & Bot.held_until.is_not(None),
    BotCondition.CREATING: Bot.phase == BotPhase.CREATING,
    BotCondition.REMOVING: Bot.phase == BotPhase.REMOVING,
}
"""Conditions of bots that are not simply running."""


def _is_outdated(targets: dict[str, Release]) -> sa.ColumnElement[bool]:
    differs = (
        (Bot.image == image) & (Bot.current_digest.is_(None) | Bot.current_digest.not_in(release.digests))
        for image, release in targets.items()
    )
    is_held = Bot.id.in_(Bot.select_exceptional().where(Bot.held_until.is_not(None)))
    updatable = Bot.is_active() & (Bot.release_channel != Channel.PINNED) & ~is_held
    return sa.and_(updatable, sa.or_(sa.false(), *differs))

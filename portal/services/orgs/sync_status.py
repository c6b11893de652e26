"""Progress of the member sync: what each bot knows of a person, and why it may lag behind. Used by pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
    BotUpdate,
    DesiredState,
    MemberSync,
    Provisioning,
    SyncRole,
    SyncState,
    User,
)


class SyncProgress(StrEnum):
    """How far the desired role of a person has been carried into a bot. What needs help comes first."""

    BLOCKED = "blocked"
    WAITING = "waiting"
    REMOVING = "removing"
    CHANGING = "changing"
    PROVISIONING = "provisioning"
    SYNCED = "synced"
    ENDED = "ended"
    """The bot does not know the person, and should not."""
    NOT_CONNECTED = "not_connected"
    """The bot gets no members from Flotilla."""


SETTLED = frozenset({SyncProgress.SYNCED, SyncProgress.ENDED, SyncProgress.NOT_CONNECTED})
"""Progress after which no call is due."""

_ORDER = {progress: position for position, progress in enumerate(SyncProgress)}
_RANKS = {SyncRole.NONE: 0, SyncRole.MEMBER: 1, SyncRole.ADMIN: 2, SyncRole.OWNER: 3}


class Obstacle(StrEnum):
    """What a bot is while no calls are sent to it."""

    CREATING = "being created"
    REMOVING = "being removed"
    UPDATING = "being updated"
    REPAIR = "under repair"
    """A rollback failed, and an operator may be restoring the data of the bot."""
    STOPPED = "stopped"
    UNKNOWN = "in an unknown state"
    """The bot has just started, or its engine does not answer."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class BotConnection:
    """A bot as the member sync sees it."""

    id: str
    name: str
    org_id: str
    epoch: int
    is_connected: bool
    """Whether the bot gets members from Flotilla."""
    is_blocked: bool
    """Whether the bot refused to be provisioned, so that it gets no members until an operator helps."""
    has_failed: bool
    """Whether the bot does not answer, or its provisioning fails, so that the calls about people wait."""
    obstacle: Obstacle | None


@dataclass(frozen=True)
class MemberSyncStatus:
    """The sync of one person with one bot."""

    row: MemberSync
    bot: BotConnection

    @property
    def progress(self) -> SyncProgress:
        """How far the sync is."""
        if not self.bot.is_connected:
            return SyncProgress.NOT_CONNECTED
        if self._is_observed:
            return SyncProgress.ENDED if self._is_removal else SyncProgress.SYNCED
        if self.is_blocked:
            return SyncProgress.BLOCKED
        return self.next_step if self.bot.obstacle is None else SyncProgress.WAITING

    @property
    def next_step(self) -> SyncProgress:
        """What the next call to the bot does, unless the sync is settled."""
        if self._is_removal:
            return SyncProgress.REMOVING
        is_new = self.row.observed_role in {None, SyncRole.NONE}
        return SyncProgress.PROVISIONING if is_new else SyncProgress.CHANGING

    @property
    def is_settled(self) -> bool:
        """Whether no call is due."""
        return self.progress in SETTLED

    @property
    def is_blocked(self) -> bool:
        """Whether the bot refuses this person, or all people."""
        return self.row.state is SyncState.BLOCKED or self.bot.is_blocked

    @property
    def has_failed(self) -> bool:
        """Whether the last attempt failed, for this person or for all people."""
        return self.is_blocked or self.row.attempts > 0 or self.bot.has_failed

    @property
    def is_retryable(self) -> bool:
        """Whether a person can ask for the next attempt now instead of later."""
        return self.has_failed and self.bot.obstacle is None and not self.is_settled

    @property
    def is_demotion(self) -> bool:
        """Whether the bot gives the person more rights than the desired role has."""
        observed = self.row.observed_role or SyncRole.NONE
        return not self._is_removal and _RANKS[self.row.desired_role] < _RANKS[observed]

    @property
    def since(self) -> datetime | None:
        """Since when the change is pending. None: since the data of the bot was replaced, whose moment is unknown."""
        return None if self.row.state is SyncState.SYNCED else self.row.changed_at

    @property
    def _is_removal(self) -> bool:
        return self.row.desired_role is SyncRole.NONE

    @property
    def _is_observed(self) -> bool:
        # A role observed in an older epoch is unknown: the bot's data has been replaced since.
        return self.row.state is SyncState.SYNCED and self.row.observed_epoch == self.bot.epoch


def load_statuses(session: Session, *conditions: sa.ColumnElement[bool]) -> dict[str, list[MemberSyncStatus]]:
    """Load the statuses of the rows that match, by user id. Removed bots are left out.

    Args:
        session: the transaction.
        conditions: conditions on `MemberSync` and `Bot`.
    """
    query = (
        sa.select(MemberSync)
        .join(Bot, Bot.id == MemberSync.bot_id)
        .where(Bot.phase != BotPhase.REMOVED, *conditions)
        .execution_options(populate_existing=True)
    )
    return build_statuses(session, session.scalars(query).all())


def load_for_user(session: Session, user: User) -> list[MemberSyncStatus]:
    """Load the statuses of a user in the bots of all organizations, by the name of the bot."""
    return load_statuses(session, MemberSync.user_id == user.id).get(user.id, [])


def build_statuses(session: Session, rows: Sequence[MemberSync]) -> dict[str, list[MemberSyncStatus]]:
    """Build the statuses of rows, by user id, and those of one user by the name of the bot."""
    bots = load_connections(session, {row.bot_id for row in rows})
    statuses: dict[str, list[MemberSyncStatus]] = {}
    for row in rows:
        statuses.setdefault(row.user_id, []).append(MemberSyncStatus(row, bots[row.bot_id]))
    for of_user in statuses.values():
        of_user.sort(key=lambda status: (status.bot.name, status.bot.id))
    return statuses


def load_connections(session: Session, bot_ids: Iterable[str]) -> Mapping[str, BotConnection]:
    """Load how the member sync sees some bots, by id."""
    is_updating = sa.exists().where(BotUpdate.bot_id == Bot.id, BotUpdate.is_running())
    query = (
        sa.select(
            Bot.id,
            Bot.name,
            Bot.org_id,
            Bot.epoch,
            Bot.phase,
            Bot.state,
            Bot.desired_state,
            Bot.address,
            Bot.needs_attention,
            is_updating.label("is_updating"),
            BotSync.provisioning,
            BotSync.attempts,
            BotSync.unanswered_calls,
            BotSync.state.label("sync_state"),
        )
        .outerjoin(BotSync, BotSync.bot_id == Bot.id)
        .where(Bot.id.in_(list(bot_ids)))
    )
    return {found.id: _build_connection(found) for found in session.execute(query)}


def find_least_advanced(statuses: Iterable[MemberSyncStatus]) -> MemberSyncStatus | None:
    """Return the status that most needs help, or None where there are no statuses."""
    return min(statuses, key=lambda status: _ORDER[status.progress], default=None)


def is_settled() -> sa.ColumnElement[bool]:
    """Return the condition for rows of `MemberSync`, joined with `Bot`, whose desired role the bot has confirmed."""
    # Without `coalesce` the negation of this condition would be NULL for rows that were never observed.
    return (MemberSync.state == SyncState.SYNCED) & (sa.func.coalesce(MemberSync.observed_epoch, 0) == Bot.epoch)


def _build_connection(found: sa.Row[*tuple[Any, ...]]) -> BotConnection:
    is_connected = found.provisioning not in {None, Provisioning.OFF}
    return BotConnection(
        id=found.id,
        name=found.name,
        org_id=found.org_id,
        epoch=found.epoch,
        is_connected=is_connected,
        is_blocked=is_connected and found.sync_state is SyncState.BLOCKED,
        has_failed=is_connected and (found.attempts > 0 or found.unanswered_calls > 0),
        obstacle=_find_obstacle(found),
    )


def _find_obstacle(found: sa.Row[*tuple[Any, ...]]) -> Obstacle | None:
    obstacles = {
        Obstacle.CREATING: found.phase is BotPhase.CREATING,
        Obstacle.REMOVING: found.phase is BotPhase.REMOVING,
        Obstacle.UPDATING: found.is_updating,
        Obstacle.REPAIR: found.needs_attention is not None,
        Obstacle.STOPPED: found.desired_state is DesiredState.STOPPED or found.state is BotState.STOPPED,
        Obstacle.UNKNOWN: found.state is BotState.UNKNOWN,
        Obstacle.UNREACHABLE: found.state is not BotState.RUNNING or found.address is None,
    }
    return next((obstacle for obstacle, exists in obstacles.items() if exists), None)

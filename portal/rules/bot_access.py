"""Who may enter a bot: one decision for HTTP requests and WebSockets. Used by the gateway.

A bot keeps its own table of rights, which the member sync changes. A person whose rights were lowered stays out until
the bot has confirmed it. Restoring the data of a bot also restores old rights, so confirmations count in the
current epoch of the data only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from portal.rules.roles import SyncRole

_RANKS = {SyncRole.NONE: 0, SyncRole.MEMBER: 1, SyncRole.ADMIN: 2, SyncRole.OWNER: 3}


class Access(Enum):
    """What happens to a request."""

    ENTER = auto()
    NOT_FOUND = auto()
    """The bot does not exist, or the person does not belong to its organization. Both get the same response."""
    PROVISIONING = auto()
    """The bot is being set up, or does not know the person yet."""
    CHANGING = auto()
    """The bot may still give the person more rights than the person has."""
    REMOVING = auto()
    """The bot is stopped, and will be removed."""
    STOPPED = auto()
    UPDATING = auto()
    """The request waits until the update has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFacts:
    """What is known about a person's rights in a bot with member sync.

    Attributes:
        is_provisioned: whether the organization exists in the bot.
        epoch: the current epoch of the bot's data.
        desired_version: how often the person's desired role was written; 1 if it never changed. 0 without a row.
        observed_role: the role that the bot confirmed last.
        observed_version: the desired version that the bot confirmed with it.
        observed_epoch: the epoch in which the bot confirmed that role.
    """

    is_provisioned: bool
    epoch: int
    desired_version: int
    observed_role: SyncRole | None
    observed_version: int | None
    observed_epoch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessFacts:
    """What decides about one person with a valid session, and one bot.

    Attributes:
        role: the person's role in the organization; `NONE` without a membership that may open bots.
        is_org_active: whether the organization is not being deleted.
        is_removed: whether only the row of the bot is left.
        is_being_created: whether the bot has no container yet.
        is_being_removed: whether the bot waits for its removal.
        is_stopped: whether the bot is stopped on purpose.
        is_updating: whether the bot is out of service because of an update.
        sync: None for a bot without member sync.
    """

    role: SyncRole
    is_org_active: bool = True
    is_removed: bool = False
    is_being_created: bool = False
    is_being_removed: bool = False
    is_stopped: bool = False
    is_updating: bool = False
    sync: SyncFacts | None = None


def decide(facts: AccessFacts) -> Access:
    """Decide about a request with a valid session."""
    if facts.role is SyncRole.NONE or not facts.is_org_active or facts.is_removed:
        return Access.NOT_FOUND
    obstacle = _find_obstacle_of_bot(facts)
    if obstacle is None and facts.sync is not None:
        obstacle = _find_obstacle_of_sync(facts.role, facts.sync)
    if obstacle is not None:
        return obstacle
    return Access.UPDATING if facts.is_updating else Access.ENTER


def find_role_in_bot(facts: AccessFacts) -> SyncRole:
    """Return the role in the bot of a person who may enter. A raise counts when the bot has confirmed it."""
    if facts.sync is None or facts.sync.observed_role is None:
        return facts.role
    return min(facts.role, facts.sync.observed_role, key=_RANKS.__getitem__)


def has_lost_rights(before: AccessFacts, now: AccessFacts) -> bool:
    """Return whether the role in the bot of a person who may enter is lower than it was."""
    return _RANKS[find_role_in_bot(now)] < _RANKS[find_role_in_bot(before)]


def _find_obstacle_of_bot(facts: AccessFacts) -> Access | None:
    if facts.is_being_created:
        return Access.PROVISIONING
    if facts.is_being_removed:
        return Access.REMOVING
    return Access.STOPPED if facts.is_stopped else None


def _find_obstacle_of_sync(role: SyncRole, sync: SyncFacts) -> Access | None:
    if not sync.is_provisioned or sync.observed_role is None or sync.observed_role is SyncRole.NONE:
        return Access.PROVISIONING
    if sync.observed_epoch != sync.epoch:
        # The data may be older than the last change of the role. Without a change it gives no higher right.
        return Access.CHANGING if sync.desired_version > 1 and role is not SyncRole.OWNER else None
    # The bot may have applied every role since the confirmed one, because the answer to a call can be lost.
    has_roles_between = sync.desired_version - (sync.observed_version or 0) > 1 and role is not SyncRole.OWNER
    return Access.CHANGING if has_roles_between or _RANKS[sync.observed_role] > _RANKS[role] else None

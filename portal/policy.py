"""The permission table: which role may do what in an organization. Views enforce it and templates query it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum, auto

from portal.rules.roles import Role


class Action(StrEnum):
    """What a user can do in an organization. The event log stores these names, so they never change."""

    READ = auto()
    """See status, health, changelog and the list of members."""
    READ_LOGS = auto()
    """Read the logs of bots. Operators can hide them from members; see `OrgAccess.may_read_logs`."""
    OPEN_BOT = auto()
    OPERATE_BOTS = auto()
    """Start, stop, restart and remove a bot."""
    UPDATE_NOW = auto()
    SET_UPDATE_PREFERENCES = auto()
    SET_ORG = auto()
    READ_AUDIT = auto()
    MANAGE_TEAM = auto()
    """Invite, remove, change roles and revoke invites."""
    SEE_BILLING = auto()
    TRANSFER_OWNERSHIP = auto()
    DELETE_ORG = auto()
    """Delete and restore the organization."""
    LEAVE = auto()
    OVERRIDE_UPDATE_PREFERENCES = auto()
    """Manage the update preferences for the organization, and return control to it."""


_ADMIN = frozenset(Action) - {Action.TRANSFER_OWNERSHIP, Action.DELETE_ORG, Action.OVERRIDE_UPDATE_PREFERENCES}

ALLOWED: dict[Role, frozenset[Action]] = {
    # The owner cannot leave, because an organization always has an owner; a transfer comes first.
    Role.OWNER: _ADMIN - {Action.LEAVE} | {Action.TRANSFER_OWNERSHIP, Action.DELETE_ORG},
    Role.ADMIN: _ADMIN,
    Role.MEMBER: frozenset({Action.READ, Action.READ_LOGS, Action.OPEN_BOT, Action.LEAVE}),
    # Operators run the bots. The team and the content of a bot belong to the customer alone.
    Role.OPERATOR: frozenset(
        {
            Action.READ,
            Action.READ_LOGS,
            Action.OPERATE_BOTS,
            Action.UPDATE_NOW,
            Action.SET_UPDATE_PREFERENCES,
            Action.OVERRIDE_UPDATE_PREFERENCES,
            Action.READ_AUDIT,
        }
    ),
}
"""The permission table."""


WHILE_DELETING = frozenset({Action.READ, Action.READ_LOGS, Action.READ_AUDIT, Action.LEAVE, Action.DELETE_ORG})
"""The actions that remain possible while an organization is being deleted. `DELETE_ORG` includes restoring it."""


def can(roles: Iterable[Role], action: Action) -> bool:
    """Whether any of a user's roles in an organization allows the action."""
    return any(action in ALLOWED[role] for role in roles)

"""The one truth about who may do what: views enforce it and templates ask it, so no page offers what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum, auto


class Role(StrEnum):
    """What a person is to an organization. An operator is "your provider" to every one of them."""

    OWNER = auto()
    ADMIN = auto()
    MEMBER = auto()
    OPERATOR = auto()


class Action(StrEnum):
    """What a person may want to do in an organization."""

    READ = auto()
    """Status, health, logs, changelog, the list of members."""
    OPEN_BOT = auto()
    OPERATE_BOTS = auto()
    """Start, stop, restart, remove a bot."""
    UPDATE_NOW = auto()
    SET_UPDATE_PREFERENCES = auto()
    SET_ORG = auto()
    READ_AUDIT = auto()
    MANAGE_TEAM = auto()
    """Invite, remove, change roles, revoke invites."""
    SEE_BILLING = auto()
    TRANSFER_OWNERSHIP = auto()
    DELETE_ORG = auto()
    """Also restore it."""
    LEAVE = auto()
    OVERRIDE_UPDATE_PREFERENCES = auto()
    """Decide about updates in the organization's place, and give that back."""


_MEMBER = frozenset({Action.READ, Action.OPEN_BOT, Action.LEAVE})
_ADMIN = frozenset(Action) - {Action.TRANSFER_OWNERSHIP, Action.DELETE_ORG, Action.OVERRIDE_UPDATE_PREFERENCES}

ALLOWED: dict[Role, frozenset[Action]] = {
    # An organization never is without its owner, who hands it over before leaving.
    Role.OWNER: _ADMIN - {Action.LEAVE} | {Action.TRANSFER_OWNERSHIP, Action.DELETE_ORG},
    Role.ADMIN: _ADMIN,
    Role.MEMBER: _MEMBER,
    # The provider looks after bots; the team and the bot's inside are the customer's own affair.
    Role.OPERATOR: frozenset(
        {
            Action.READ,
            Action.OPERATE_BOTS,
            Action.UPDATE_NOW,
            Action.SET_UPDATE_PREFERENCES,
            Action.OVERRIDE_UPDATE_PREFERENCES,
            Action.READ_AUDIT,
        }
    ),
}
"""The permission table."""


WHILE_DELETING = frozenset({Action.READ, Action.READ_AUDIT, Action.LEAVE, Action.DELETE_ORG})
"""What is left of all that while an organization is being deleted; restoring it belongs to who may delete it."""


def can(roles: Iterable[Role], action: Action) -> bool:
    """Whether any of a person's roles in an organization allows the action."""
    return any(action in ALLOWED[role] for role in roles)


def strongest(roles: Iterable[Role]) -> Role | None:
    """The role to call a person by: of several the one that may do most; None for an outsider."""
    return max(roles, key=lambda role: len(ALLOWED[role]), default=None)

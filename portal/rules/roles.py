"""The roles of people in an organization: rank, label and description of each role, and what bots are sent for it.

The invite form, the role select, mails, the audit log and the member sync derive from `ROLES`. The permission table
is in `portal.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What a user is to an organization. Organizations see an operator as "your provider"."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    OPERATOR = "operator"


class MembershipRole(StrEnum):
    """The roles that a membership or an invite can have. The owner is `Org.owner_id`; operators are no members."""

    ADMIN = Role.ADMIN
    MEMBER = Role.MEMBER


class SyncRole(StrEnum):
    """The roles that the provision protocol of bots knows. `NONE` removes the user from the bot."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RoleInfo:
    """What pages and mails show of a role, and what bots are sent for it.

    Attributes:
        rank: roles with a higher rank may do more.
        label: the role in lists and selects.
        noun: the role in a sentence, with its article.
        description: what the role may do, for the person who chooses it.
        sync_role: the role that bots are sent.
    """

    rank: int
    label: str
    noun: str
    description: str
    sync_role: SyncRole


_OWNER_GRANTS = frozenset(
    {
        "agents:create",
        "agents:update",
        "agents:delete",
        "costs:view",
        "company:delete",
        "users:invite",
        "users:manage_permissions",
        "tasks:assign",
        "joins:approve",
    }
)

ROLES: Mapping[str, RoleInfo] = MappingProxyType(
    {
        Role.OWNER: RoleInfo(
            3, "Owner", "the owner", "can also transfer and delete the organization", SyncRole.OWNER
        ),
        Role.ADMIN: RoleInfo(2, "Admin", "an admin", "manages the bots and the team", SyncRole.ADMIN),
        Role.MEMBER: RoleInfo(1, "Member", "a member", "uses the bots", SyncRole.MEMBER),
    }
)
"""The roles of an organization's own people, by the value of the role."""

BOT_GRANTS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        SyncRole.OWNER: _OWNER_GRANTS,
        SyncRole.ADMIN: _OWNER_GRANTS - {"company:delete"},
        SyncRole.MEMBER: frozenset({"tasks:assign"}),
    }
)
"""What each role may do inside a bot. The bot gives these rights itself; reconciliation compares them."""

ASSIGNABLE_ROLES = tuple(sorted(MembershipRole, key=lambda role: ROLES[role].rank))
"""The roles that owners and admins can give to others, the weakest first."""


def outranks(role: MembershipRole, other: MembershipRole) -> bool:
    """Whether `role` may do more than `other`."""
    return ROLES[role].rank > ROLES[other].rank

"""The roles of members and what each may do in the bot. Used by members and pages."""

from __future__ import annotations

_ADMIN_GRANTS = (
    "agents:create",
    "agents:update",
    "agents:delete",
    "costs:view",
    "users:invite",
    "users:manage_permissions",
    "tasks:assign",
    "joins:approve",
)

GRANTS: dict[str, tuple[str, ...]] = {
    "owner": (*_ADMIN_GRANTS, "company:delete"),
    "admin": _ADMIN_GRANTS,
    "member": ("tasks:assign",),
}
"""The grants of each role of the platform, the strongest role first."""

ROLES = tuple(GRANTS)
INSTANCE_ADMIN_ROLES = frozenset({"owner", "admin"})
"""Who has one of these roles in any company administers the instance."""

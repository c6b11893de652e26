"""The checks of the contract, one module per part of it, and their order.

The order matters: a check may leave a running bot, a company or what it learned about the bot to later ones.
"""

from __future__ import annotations

from daemon.conformance.checks import (
    authentication,
    image,
    instance_admins,
    lifecycle,
    member_list,
    members,
    provisioning,
    secrets,
    shapes,
    starting,
    teardown,
    upgrade,
    versions,
    visitors,
)
from daemon.conformance.outcomes import Check

ALL_CHECKS: tuple[Check, ...] = (
    *image.CHECKS,
    *starting.CHECKS,
    *authentication.CHECKS,
    *provisioning.CHECKS,
    *member_list.CHECKS,
    *visitors.CHECKS,
    *members.CHECKS,
    *versions.CHECKS,
    *instance_admins.CHECKS,
    *teardown.CHECKS,
    *shapes.CHECKS,
    *lifecycle.CHECKS,
    *secrets.CHECKS,
    *upgrade.CHECKS,
)

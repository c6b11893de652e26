"""The tables, one aggregate per file. Importing this package knows them all, as migrations need it."""

from portal.models.base import Base, new_id, utcnow
from portal.models.bot import Bot, BotState, Channel, DesiredState
from portal.models.event import Event
from portal.models.fleet import FleetMode, FleetSettings, TenantMode, TenantUpdateConfig
from portal.models.lease import Lease
from portal.models.node import Node, NodeState
from portal.models.org import Membership, MembershipRole, MembershipState, Org, OrgState
from portal.models.release import PolledImage, Release
from portal.models.rollout import Audience, Rollout, RolloutState, StrategyName, Trigger
from portal.models.snapshot import Snapshot, SnapshotState
from portal.models.states import move
from portal.models.update import BotUpdate, SkipReason, Step, UpdateState, Verdict
from portal.models.user import User, UserSession

__all__ = [
    "Audience",
    "Base",
    "Bot",
    "BotState",
    "BotUpdate",
    "Channel",
    "DesiredState",
    "Event",
    "FleetMode",
    "FleetSettings",
    "Lease",
    "Membership",
    "MembershipRole",
    "MembershipState",
    "Node",
    "NodeState",
    "Org",
    "OrgState",
    "PolledImage",
    "Release",
    "Rollout",
    "RolloutState",
    "SkipReason",
    "Snapshot",
    "SnapshotState",
    "Step",
    "StrategyName",
    "TenantMode",
    "TenantUpdateConfig",
    "Trigger",
    "UpdateState",
    "User",
    "UserSession",
    "Verdict",
    "move",
    "new_id",
    "utcnow",
]

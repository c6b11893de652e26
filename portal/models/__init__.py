"""The database tables, one aggregate per module. Importing the package loads all tables, as migrations need."""

from portal.models.alert import AlertChannel, AlertDelivery, AlertFormat, AlertState
from portal.models.base import Base, new_id, utcnow
from portal.models.bot import Bot, BotLabel, BotPhase, BotState, Channel, DesiredState, HealthExpectation
from portal.models.bot_request import BotRequest
from portal.models.bot_state_change import BotStateChange
from portal.models.bot_template import BotTemplate
from portal.models.event import Event, EventPersonalData, EventTag
from portal.models.fleet_settings import FleetMode, FleetSettings, TenantMode, TenantUpdateConfig
from portal.models.fork_sync import ForkSync, ForkSyncState
from portal.models.gateway import AssertionKey, GatewayProcess, GatewaySession, GatewayTicket
from portal.models.invite import Invite, InviteState, InviteToken, TokenDelivery
from portal.models.lease import Lease
from portal.models.mail import MailState, OutgoingMail
from portal.models.node import Node, NodeState
from portal.models.org import Membership, MembershipState, Org, OrgState
from portal.models.release import PolledImage, ReadingPull, Release
from portal.models.rollout import Audience, Rollout, RolloutState, Trigger
from portal.models.saved_view import SavedView
from portal.models.snapshot import Snapshot, SnapshotState
from portal.models.sync import BotSync, MemberSync, Provisioning, SyncState
from portal.models.token import OneTimeToken, TokenPurpose
from portal.models.transitions import move, update_and_load, update_where
from portal.models.update import BotUpdate, SkipReason, Step, UpdateState, Verdict
from portal.models.update_notice import UpdateNotice
from portal.models.user import User, UserSession
from portal.rules.roles import MembershipRole, SyncRole

__all__ = [
    "AlertChannel",
    "AlertDelivery",
    "AlertFormat",
    "AlertState",
    "AssertionKey",
    "Audience",
    "Base",
    "Bot",
    "BotLabel",
    "BotPhase",
    "BotRequest",
    "BotState",
    "BotStateChange",
    "BotSync",
    "BotTemplate",
    "BotUpdate",
    "Channel",
    "DesiredState",
    "Event",
    "EventPersonalData",
    "EventTag",
    "FleetMode",
    "FleetSettings",
    "ForkSync",
    "ForkSyncState",
    "GatewayProcess",
    "GatewaySession",
    "GatewayTicket",
    "HealthExpectation",
    "Invite",
    "InviteState",
    "InviteToken",
    "Lease",
    "MailState",
    "MemberSync",
    "Membership",
    "MembershipRole",
    "MembershipState",
    "Node",
    "NodeState",
    "OneTimeToken",
    "Org",
    "OrgState",
    "OutgoingMail",
    "PolledImage",
    "Provisioning",
    "ReadingPull",
    "Release",
    "Rollout",
    "RolloutState",
    "SavedView",
    "SkipReason",
    "Snapshot",
    "SnapshotState",
    "Step",
    "SyncRole",
    "SyncState",
    "TenantMode",
    "TenantUpdateConfig",
    "TokenDelivery",
    "TokenPurpose",
    "Trigger",
    "UpdateNotice",
    "UpdateState",
    "User",
    "UserSession",
    "Verdict",
    "move",
    "new_id",
    "update_and_load",
    "update_where",
    "utcnow",
]

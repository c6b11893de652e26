"""Who visits which bot: one query for sessions of the gateway, with all facts that decide. Used by the gateway."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
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
    GatewaySession,
    Membership,
    MembershipState,
    MemberSync,
    Org,
    OrgState,
    Provisioning,
    Step,
    User,
    UserSession,
)
from portal.policy import Action, can
from portal.rules.bot_access import AccessFacts, SyncFacts
from portal.rules.roles import ROLES, Role, SyncRole
from portal.services.accounts import sessions

OUT_OF_SERVICE = (
    Step.DRAIN,
    Step.STOP,
    Step.SNAPSHOT,
    Step.SWAP,
    Step.START,
    Step.HEALTH,
    Step.COMMIT,
    Step.ROLLBACK,
)
"""Steps of a running update during which requests to the bot wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A valid session of the gateway: a person, a bot, and what decides about the access.

    Attributes:
        facts: what decides about the access.
        subdomain: the subdomain of the bot, for which the session is valid.
        bot_id: the bot.
        bot_name: the name of the bot for people.
        org_id: the organization of the bot.
        address: `host:port` of the bot; None while it is not known to run.
        header_prefix: how the names of the identity headers begin.
        user_id: the person.
        email: the person's email.
        name: the person's display name.
    """

    facts: AccessFacts
    subdomain: str
    bot_id: str
    bot_name: str
    org_id: str
    address: str | None
    header_prefix: str
    user_id: str
    email: str
    name: str

    def concerns(self, ids: Collection[str]) -> bool:
        """Return whether one of these rows decides about the visit."""
        return self.user_id in ids or self.bot_id in ids or self.org_id in ids


def load_visits(session: Session, token_hashes: Collection[str], now: datetime) -> dict[str, Visit]:
    """Load visits by the hash of their session token. Ended and unknown sessions are left out.

    Args:
        session: any session.
        token_hashes: SHA-256 of the tokens, in hex.
        now: the current time.
    """
    is_known = GatewaySession.token_hash.in_(token_hashes)
    found = session.execute(_QUERY.where(is_known, *sessions.is_active(now), User.disabled_at.is_(None)))
    return {row.token_hash: _to_visit(row) for row in found}


_QUERY = (
    # Columns instead of rows: large columns such as `Bot.spec` are not read, and nothing is tracked.
    sa.select(
        GatewaySession.token_hash,
        Bot.id.label("bot_id"),
        Bot.name.label("bot_name"),
        Bot.subdomain,
        Bot.address,
        Bot.header_prefix,
        Bot.phase,
        Bot.state,
        Bot.desired_state,
        Bot.applied_state,
        Bot.epoch,
        Bot.company_id,
        Org.id.label("org_id"),
        Org.state.label("org_state"),
        Org.owner_id,
        User.id.label("user_id"),
        User.email,
        User.name,
        Membership.role,
        BotSync.provisioning,
        MemberSync.desired_version,
        MemberSync.observed_role,
        MemberSync.observed_version,
        MemberSync.observed_epoch,
        BotUpdate.step,
    )
    .join(UserSession, UserSession.id_hash == GatewaySession.portal_session)
    .join(User, User.id == UserSession.user_id)
    .join(Bot, Bot.id == GatewaySession.bot_id)
    .join(Org, Org.id == Bot.org_id)
    .outerjoin(
        Membership,
        sa.and_(
            Membership.org_id == Org.id, Membership.user_id == User.id, Membership.state == MembershipState.ACTIVE
        ),
    )
    .outerjoin(BotSync, BotSync.bot_id == Bot.id)
    .outerjoin(MemberSync, sa.and_(MemberSync.bot_id == Bot.id, MemberSync.user_id == User.id))
    .outerjoin(BotUpdate, sa.and_(BotUpdate.bot_id == Bot.id, BotUpdate.is_running()))
)


def _to_visit(row: Any) -> Visit:
    return Visit(
        facts=AccessFacts(
            role=_find_role(row),
            is_org_active=row.org_state is OrgState.ACTIVE,
            is_removed=row.phase is BotPhase.REMOVED,
            is_being_created=row.phase is BotPhase.CREATING,
            is_being_removed=row.phase is BotPhase.REMOVING,
            is_stopped=DesiredState.STOPPED in {row.desired_state, row.applied_state},
            is_updating=row.step in OUT_OF_SERVICE,
            sync=_to_sync_facts(row),
        ),
        subdomain=row.subdomain,
        bot_id=row.bot_id,
        bot_name=row.bot_name,
        org_id=row.org_id,
        address=_find_address(row),
        header_prefix=row.header_prefix,
        user_id=row.user_id,
        email=row.email,
        name=row.name,
    )


def _find_address(row: Any) -> str | None:
    # The engine may have given the address of a container that does not run to the container of another organization.
    return None if row.state in {BotState.STOPPED, BotState.MISSING} else row.address


def _find_role(row: Any) -> SyncRole:
    if row.role is None:
        return SyncRole.NONE
    role = Role.OWNER if row.user_id == row.owner_id else Role(row.role)
    return ROLES[role].sync_role if can([role], Action.OPEN_BOT) else SyncRole.NONE


def _to_sync_facts(row: Any) -> SyncFacts | None:
    if row.provisioning in {None, Provisioning.OFF}:
        return None
    return SyncFacts(
        is_provisioned=row.company_id is not None,
        epoch=row.epoch,
        desired_version=row.desired_version or 0,
        observed_role=row.observed_role,
        observed_version=row.observed_version,
        observed_epoch=row.observed_epoch,
    )

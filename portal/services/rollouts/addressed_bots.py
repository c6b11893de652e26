"""The bots that a rollout addresses, as short rows, each with the reason if it is left out. Used by selection.

A rollout may address many thousand bots, so the database finds the reasons. The order of the conditions is the one of
`eligibility.exclusion_reason`; a test compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotState,
    Channel,
    DesiredState,
    Org,
    OrgState,
    Release,
    TenantUpdateConfig,
)
from portal.services import fleet_settings
from portal.services.rollouts import eligibility
from portal.services.rollouts.narrowing import Narrowing


class LeftOut(StrEnum):
    """Why a rollout does not update a bot."""

    CURRENT = "already up to date"
    MANUAL = "of organizations that update manually"
    FAILED = "failed on this release before"
    UNAVAILABLE = "being created or removed"
    ORGANIZATION = "of organizations that are being deleted"
    ATTENTION = "in need of attention"
    PINNED = "pinned to their version"
    HELD = "held at their version for now"
    DECLINED = "of organizations that skip this release"
    STOPPED = "stopped"
    """The bot is part of the rollout, but is updated only if it runs again."""


# A look-up costs less than a call of the enum, which matters with many thousand bots.
_REASONS: dict[str | None, LeftOut] = {str(reason): reason for reason in LeftOut}


class AddressedBot(NamedTuple):
    """One bot that a rollout addresses."""

    bot_id: str
    node_id: str
    image: str
    hour_utc: int
    may_be_canary: bool
    canary_channel: bool
    left_out: LeftOut | None


def list_addressed(
    session: Session,
    release: Release,
    audience: Audience,
    narrowing: Narrowing,
    image: str | None = None,
) -> Sequence[AddressedBot]:
    """List the bots that an operator's rollout of `release` addresses, oldest first.

    Args:
        session: the transaction.
        release: the release.
        audience: `AUTOMATIC` or `ALL`.
        narrowing: what narrows down the bots.
        image: only bots that follow this reference, see `eligibility.list_addressed_images` for the default.
    """
    settings = fleet_settings.get_settings(session)
    images = [image] if image else eligibility.list_addressed_images(session, release)
    query = (
        sa.select(
            Bot.id,
            Bot.node_id,
            Bot.image,
            sa.func.coalesce(TenantUpdateConfig.preferred_hour_utc, settings.tenant_hour_utc),
            eligibility.may_be_canary(),
            Bot.release_channel == Channel.CANARY,
            _describe_left_out(release, audience, eligibility.is_automatic(settings)),
        )
        .join(Org, Org.id == Bot.org_id)
        .outerjoin(TenantUpdateConfig, TenantUpdateConfig.org_id == Bot.org_id)
        .where(Bot.image.in_(images), Bot.phase != BotPhase.REMOVED, *narrowing.list_conditions())
        .order_by(Bot.created_at, Bot.id)
    )
    return [
        AddressedBot(bot_id, node_id, found, hour, bool(may_be), bool(canary), _REASONS.get(reason))
        for bot_id, node_id, found, hour, may_be, canary, reason in session.execute(query)
    ]


def is_updatable(release: Release) -> sa.ColumnElement[bool]:
    """Return the condition for bots that a rollout to named bots can update. The query joins their organizations."""
    return _describe_left_out(release, Audience.NAMED, sa.true()).is_(None)


def _describe_left_out(
    release: Release, audience: Audience, is_automatic: sa.ColumnElement[bool]
) -> sa.ColumnElement[str | None]:
    is_current = Bot.current_digest.in_(sorted(release.digests))
    reasons: list[tuple[LeftOut, sa.ColumnElement[bool]]] = [(LeftOut.CURRENT, is_current)]
    if audience is Audience.AUTOMATIC:
        reasons.insert(0, (LeftOut.MANUAL, ~is_automatic))
        reasons.append((LeftOut.FAILED, Bot.id.in_(eligibility.select_failed(release))))
    reasons += [
        (LeftOut.UNAVAILABLE, Bot.phase != BotPhase.ACTIVE),
        (LeftOut.ORGANIZATION, Org.state != OrgState.ACTIVE),
        (LeftOut.ATTENTION, Bot.needs_attention.is_not(None)),
    ]
    if audience is not Audience.NAMED:
        reasons.append((LeftOut.PINNED, Bot.release_channel == Channel.PINNED))
        reasons.append((LeftOut.HELD, Bot.held_until.is_not(None)))
    if audience is Audience.AUTOMATIC:
        reasons.append((LeftOut.DECLINED, Bot.skipped_release_id == release.id))
    is_down = Bot.state.in_((BotState.STOPPED, BotState.MISSING))
    reasons.append((LeftOut.STOPPED, sa.or_(Bot.desired_state == DesiredState.STOPPED, is_down)))
    return sa.case(*((condition, sa.literal(str(reason))) for reason, condition in reasons), else_=None)

"""Eligibility of bots for a rollout. Used when a rollout starts, by the forecast, and at every tick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased, contains_eager, defer

from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    FleetMode,
    FleetSettings,
    Node,
    NodeState,
    Org,
    OrgState,
    Release,
    Rollout,
    SkipReason,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
)
from portal.rules import canary
from portal.services import fleet_settings
from portal.services.orgs.update_preferences import resolve_preferences
from portal.services.releases import releases
from portal.services.rollouts.fleet_facts import FleetFacts

FAILED_STATES = frozenset({UpdateState.FAILED, UpdateState.ROLLED_BACK, UpdateState.NEEDS_ATTENTION})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bot with the update preferences that apply to it."""

    bot: Bot
    automatic: bool
    """The organization is in automatic mode, and the fleet is not in manual mode."""
    hour_utc: int
    """Update hour of the organization (0 to 23, UTC)."""

    @property
    def may_be_canary(self) -> bool:
        """Whether the bot can prove a release."""
        return canary.may_be_canary(healthy=self.bot.state is BotState.RUNNING, protected=not self.bot.unprotected)


def load_candidates(session: Session, *conditions: sa.ColumnElement[bool]) -> list[Candidate]:
    """Load bots with nodes, organizations and update preferences, oldest first, without secrets."""
    settings = fleet_settings.get_settings(session)
    query = (
        sa.select(Bot, TenantUpdateConfig)
        .join(Bot.org)
        .join(Bot.node)
        .outerjoin(TenantUpdateConfig, TenantUpdateConfig.org_id == Bot.org_id)
        .where(*conditions)
        .options(contains_eager(Bot.org), contains_eager(Bot.node), defer(Bot.spec), defer(Bot.provision_secret))
        .order_by(Bot.created_at, Bot.id)
    )
    candidates = []
    for bot, config in session.execute(query).unique():
        preferences = resolve_preferences(config, settings)
        automatic = settings.mode is not FleetMode.MANUAL and preferences.mode is TenantMode.AUTO
        candidates.append(Candidate(bot, automatic, preferences.hour_utc))
    return candidates


def is_automatic(settings: FleetSettings) -> sa.ColumnElement[bool]:
    """Return the condition for bots of organizations in automatic mode, see `Candidate.automatic`."""
    if settings.mode is FleetMode.MANUAL:
        return sa.false()
    chosen = sa.select(TenantUpdateConfig.org_id)
    if settings.tenant_mode is TenantMode.AUTO:
        return Bot.org_id.not_in(chosen.where(TenantUpdateConfig.mode == TenantMode.MANUAL))
    return Bot.org_id.in_(chosen.where(TenantUpdateConfig.mode == TenantMode.AUTO))


def list_joinable(
    session: Session, fleet: FleetFacts, release: Release, limit: int, rollout: Rollout | None = None
) -> list[tuple[str, str | None]]:
    """List the bots that automatic updates have to update to a release, those of the canary channel first.

    These are running bots of organizations in automatic mode, on active nodes, that are outdated, have not failed on
    the release before and have no open update.

    Args:
        session: any session.
        fleet: the fleet.
        release: a release at which tags point.
        limit: largest number of bots.
        rollout: the open automatic rollout of the release, if there is one.

    Returns:
        Pairs of the id of a bot, and the id of its update in `rollout`, if that was skipped. The update of a bot that
        was skipped because it was stopped is pending again as soon as the bot is seen running, so such a bot is not
        listed.
    """
    query = (
        sa.select(Bot.id)
        .join(Bot.org)
        .join(Bot.node)
        .where(
            Bot.image.in_(fleet.list_images(release)),
            sa.or_(Bot.current_digest.is_(None), Bot.current_digest.not_in(sorted(release.digests))),
            is_automatic(fleet.settings),
            _is_updatable(),
            Node.state == NodeState.ACTIVE,
            Org.state == OrgState.ACTIVE,
            Bot.id.not_in(_select_waiting()),
            Bot.id.not_in([update.bot_id for update in fleet.running]),
            Bot.id.not_in(_select_failed(release)),
        )
        .order_by((Bot.release_channel == Channel.CANARY).desc(), Bot.created_at, Bot.id)
        .limit(limit)
    )
    if rollout is None:
        return [(bot_id, None) for bot_id in session.scalars(query)]
    member = aliased(BotUpdate)
    is_rejoinable = sa.and_(
        member.state == UpdateState.SKIPPED, member.skip_reason.is_distinct_from(SkipReason.STOPPED)
    )
    query = query.outerjoin(member, sa.and_(member.bot_id == Bot.id, member.rollout_id == rollout.id))
    joining = query.where(sa.or_(member.id.is_(None), is_rejoinable)).add_columns(member.id)
    return [(bot_id, update_id) for bot_id, update_id in session.execute(joining)]


def exclusion_reason(candidate: Candidate, release: Release, audience: Audience) -> SkipReason | None:
    """Return why a rollout of `release` to `audience` cannot take this bot; None when it can."""
    bot = candidate.bot
    if releases.is_running(bot, release):
        return SkipReason.ALREADY_THERE
    if bot.phase is not BotPhase.ACTIVE or bot.org.state is not OrgState.ACTIVE or bot.needs_attention:
        return SkipReason.NOT_ELIGIBLE
    if audience is not Audience.NAMED and bot.release_channel is Channel.PINNED:
        return SkipReason.NOT_ELIGIBLE
    if audience is Audience.AUTOMATIC and not candidate.automatic:
        return SkipReason.NOT_ELIGIBLE
    if bot.desired_state is DesiredState.STOPPED or bot.state in {BotState.STOPPED, BotState.MISSING}:
        return SkipReason.STOPPED
    return None


def load_for_release(
    session: Session, release: Release, audience: Audience, image: str | None = None
) -> list[Candidate]:
    """Load the bots that an operator's rollout of `release` addresses, including bots that cannot be updated.

    Args:
        session: the transaction.
        release: the release.
        audience: `AUTOMATIC` or `ALL`.
        image: only bots that follow this reference. By default these are the bots whose tag points at the release
            now. Where no tag does, they are the bots that follow the reference under which the release was first
            seen. A release that was never seen under a tag (a pasted digest) addresses every bot of its repository.
    """
    images = [image] if image else _list_addressed_images(session, release)
    candidates = load_candidates(session, Bot.image.in_(images))
    if audience is Audience.AUTOMATIC:
        failed = list_failed_bot_ids(session, release)
        return [candidate for candidate in candidates if candidate.automatic and candidate.bot.id not in failed]
    return candidates


def load_named(session: Session, bot_ids: Iterable[str]) -> list[Candidate]:
    """Load these bots, oldest first."""
    return load_candidates(session, Bot.id.in_(list(bot_ids)))


def list_failed_bot_ids(session: Session, release: Release) -> set[str]:
    """Return ids of the bots that failed on this release. Automatic updates do not retry them."""
    return set(session.scalars(_select_failed(release)))


def _select_failed(release: Release) -> sa.Select[str]:
    return (
        sa.select(BotUpdate.bot_id)
        .join(BotUpdate.rollout)
        .where(Rollout.release_id == release.id, BotUpdate.state.in_(sorted(FAILED_STATES)))
    )


def _is_updatable() -> sa.ColumnElement[bool]:
    """Return the condition for bots that `exclusion_reason` does not exclude for a reason of their own."""
    return sa.and_(
        Bot.is_active(),
        Bot.needs_attention.is_(None),
        Bot.release_channel != Channel.PINNED,
        Bot.desired_state == DesiredState.RUNNING,
        Bot.state.not_in((BotState.STOPPED, BotState.MISSING)),
    )


def _select_waiting() -> sa.Select[str]:
    """Select the bots that wait in an open rollout."""
    open_rollouts = sa.select(Rollout.id).where(Rollout.state.in_(sorted(Rollout.OPEN)))
    return sa.select(BotUpdate.bot_id).where(
        BotUpdate.rollout_id.in_(open_rollouts), BotUpdate.state == UpdateState.PENDING
    )


def _list_addressed_images(session: Session, release: Release) -> Sequence[str]:
    pointing = [image for image, target in releases.map_targets(session).items() if target.id == release.id]
    if pointing or "@" not in release.image:
        return pointing or [release.image]
    repository = release.repository + ":"
    followed = session.scalars(sa.select(Bot.image).distinct())
    return [image for image in followed if image.startswith(repository)]

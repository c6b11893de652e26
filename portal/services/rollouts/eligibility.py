"""Eligibility of bots for a rollout. Used when a rollout starts, by the forecast, and at every tick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

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
TRY_AGAIN_AFTER = timedelta(hours=12)
"""When automatic updates try a bot again whose update and retries failed without fault of the release. The time is
longer than an update hour, so that the bot is due in the next one."""


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


def may_be_canary() -> sa.ColumnElement[bool]:
    """Return the condition of `portal.rules.canary.may_be_canary`."""
    return sa.and_(Bot.state == BotState.RUNNING, sa.cast(Bot.unprotected, sa.Text).in_(("[]", "null")))


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
) -> Sequence[str]:
    """List ids of the bots that automatic updates have to update to a release, those of the canary channel first.

    These are running bots of organizations in automatic mode, on active nodes, that are outdated and have no open
    update. A bot on which the release has failed is left out, one whose update was interrupted for `TRY_AGAIN_AFTER`.

    Args:
        session: any session.
        fleet: the fleet.
        release: a release at which tags point.
        limit: largest number of bots.
        rollout: the open automatic rollout of the release, whose bots are not listed.
    """
    query = sa.select(Bot.id).where(*_is_joinable(fleet, release))
    if rollout is not None:
        query = query.where(Bot.id.not_in(sa.select(BotUpdate.bot_id).where(BotUpdate.rollout_id == rollout.id)))
    query = query.where(Bot.id.not_in(_select_waiting_elsewhere(rollout)))
    canaries_first = (Bot.release_channel == Channel.CANARY).desc()
    return session.scalars(query.order_by(canaries_first, Bot.created_at, Bot.id).limit(limit)).all()


def list_rejoinable(session: Session, fleet: FleetFacts, rollout: Rollout, limit: int) -> Sequence[str]:
    """List ids of the updates of an automatic rollout that are to be tried again.

    They were skipped for a reason that no longer applies, or failed `TRY_AGAIN_AFTER` ago without fault of the
    release and are cleaned up. The update of a bot that was stopped is pending again as soon as the bot is seen
    running, so it is not listed.
    """
    ended = sa.and_(
        BotUpdate.rollout_id == rollout.id,
        sa.or_(
            BotUpdate.state == UpdateState.SKIPPED,
            sa.and_(BotUpdate.state == UpdateState.FAILED, BotUpdate.transient, BotUpdate.cleaned_at.is_not(None)),
        ),
    )
    if session.scalar(sa.select(BotUpdate.bot_id).where(ended).limit(1)) is None:
        return []
    query = (
        sa.select(BotUpdate.id)
        .join(Bot, Bot.id == BotUpdate.bot_id)
        .where(
            ended,
            BotUpdate.skip_reason.is_distinct_from(SkipReason.STOPPED),
            *_is_joinable(fleet, rollout.release),
            Bot.id.not_in(_select_waiting_elsewhere(rollout)),
        )
    )
    return session.scalars(query.limit(limit)).all()


def exclusion_reason(candidate: Candidate, release: Release, audience: Audience) -> SkipReason | None:
    """Return why a rollout of `release` to `audience` cannot take this bot; None when it can."""
    bot = candidate.bot
    if releases.is_running(bot, release):
        return SkipReason.ALREADY_THERE
    if bot.phase is not BotPhase.ACTIVE or bot.org.state is not OrgState.ACTIVE or bot.needs_attention:
        return SkipReason.NOT_ELIGIBLE
    keeps_version = bot.release_channel is Channel.PINNED or bot.held_until is not None
    if (audience is not Audience.NAMED and keeps_version) or (
        audience is Audience.AUTOMATIC and not candidate.automatic
    ):
        return SkipReason.NOT_ELIGIBLE
    if audience is Audience.AUTOMATIC and bot.skips(release):
        return SkipReason.DECLINED
    if bot.desired_state is DesiredState.STOPPED or bot.state in {BotState.STOPPED, BotState.MISSING}:
        return SkipReason.STOPPED
    return None


def load_named(session: Session, bot_ids: Iterable[str]) -> list[Candidate]:
    """Load these bots, oldest first."""
    return load_candidates(session, Bot.id.in_(list(bot_ids)))


def select_failed(release: Release) -> sa.Select[str]:
    """Select the bots on which this release failed. Automatic updates do not retry them."""
    return _select_unsuccessful(release).where(~BotUpdate.transient)


def _select_failed_or_interrupted(release: Release, now: datetime) -> sa.Select[str]:
    """Select the bots on which this release failed, or whose update to it was interrupted a short time ago."""
    return _select_unsuccessful(release).where(
        sa.or_(~BotUpdate.transient, BotUpdate.ended_at > now - TRY_AGAIN_AFTER)
    )


def _select_unsuccessful(release: Release) -> sa.Select[str]:
    return (
        sa.select(BotUpdate.bot_id)
        .join(BotUpdate.rollout)
        .where(Rollout.release_id == release.id, BotUpdate.state.in_(sorted(FAILED_STATES)))
    )


def _is_joinable(fleet: FleetFacts, release: Release) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for bots that a rollout to automatic organizations may take, if they do not wait in one.

    The conditions that an index answers without the row come first. The others follow `exclusion_reason`.
    """
    return (
        Bot.image.in_(fleet.list_images(release)),
        sa.or_(Bot.current_digest.is_(None), Bot.current_digest.not_in(sorted(release.digests))),
        is_automatic(fleet.settings),
        Bot.org_id.not_in(sa.select(Org.id).where(Org.is_inactive())),
        Bot.id.not_in([update.bot_id for update in fleet.running]),
        Bot.id.not_in(_select_failed_or_interrupted(release, fleet.now)),
        Bot.is_active(),
        Bot.needs_attention.is_(None),
        Bot.release_channel != Channel.PINNED,
        Bot.held_until.is_(None),
        Bot.skipped_release_id.is_distinct_from(release.id),
        Bot.desired_state == DesiredState.RUNNING,
        Bot.state.not_in((BotState.STOPPED, BotState.MISSING)),
        Bot.node_id.not_in(fleet.inactive_nodes),
    )


def _select_waiting_elsewhere(rollout: Rollout | None) -> sa.Select[str]:
    """Select the bots that wait in an open rollout, except for this one."""
    others = sa.select(Rollout.id).where(Rollout.state.in_(sorted(Rollout.OPEN)))
    if rollout is not None:
        others = others.where(Rollout.id != rollout.id)
    return sa.select(BotUpdate.bot_id).where(BotUpdate.rollout_id.in_(others), BotUpdate.state == UpdateState.PENDING)


def list_addressed_images(session: Session, release: Release) -> Sequence[str]:
    """List the references whose bots a rollout of a release addresses.

    These are the tags that point at the release now. Where no tag does, it is the reference under which the release
    was first seen. A release that was never seen under a tag (a pasted digest) addresses every tag of its repository.
    """
    pointing = [image for image, target in releases.map_targets(session).items() if target.id == release.id]
    if pointing or "@" not in release.image:
        return pointing or [release.image]
    repository = release.repository + ":"
    followed = session.scalars(sa.select(Bot.image).distinct())
    return [image for image in followed if image.startswith(repository)]

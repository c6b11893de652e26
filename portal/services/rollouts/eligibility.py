"""Eligibility of bots for a rollout. Used when a rollout starts, by the forecast, and at every tick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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


def load_outdated_automatic(session: Session) -> dict[Release, list[Candidate]]:
    """Load the bots that automatic updates have to update, by the release that they should run.

    These are running bots of organizations in automatic mode, on active nodes, that are outdated, have not failed on
    the release before and have no open update.
    """
    targets = releases.map_targets(session)
    conditions = [
        _is_outdated(targets),
        Bot.id.not_in(_select_with_open_update()),
        Bot.phase == BotPhase.ACTIVE,
        Node.state == NodeState.ACTIVE,
        Org.state == OrgState.ACTIVE,
    ]
    outdated: dict[Release, list[Candidate]] = {}
    failed: dict[str, set[str]] = {}
    for candidate in load_candidates(session, *conditions):
        release = targets[candidate.bot.image]
        if exclusion_reason(candidate, release, Audience.AUTOMATIC):
            continue
        if release.id not in failed:
            failed[release.id] = list_failed_bot_ids(session, release)
        if candidate.bot.id not in failed[release.id]:
            outdated.setdefault(release, []).append(candidate)
    return outdated


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
    query = (
        sa.select(BotUpdate.bot_id)
        .join(BotUpdate.rollout)
        .where(Rollout.release_id == release.id, BotUpdate.state.in_(FAILED_STATES))
    )
    return set(session.scalars(query))


def _is_outdated(targets: Mapping[str, Release]) -> sa.ColumnElement[bool]:
    conditions = [
        sa.and_(Bot.image == image, sa.or_(Bot.current_digest.is_(None), Bot.current_digest.not_in(release.digests)))
        for image, release in targets.items()
    ]
    return sa.or_(sa.false(), *conditions)


def _select_with_open_update() -> sa.Select[str]:
    in_progress = sa.or_(BotUpdate.state == UpdateState.RUNNING, Rollout.state.in_(Rollout.OPEN))
    # The OR over two tables can use no index. `is_open` keeps it from reading the history.
    return sa.select(BotUpdate.bot_id).join(BotUpdate.rollout).where(BotUpdate.is_open(), in_progress)


def _list_addressed_images(session: Session, release: Release) -> Sequence[str]:
    pointing = [image for image, target in releases.map_targets(session).items() if target.id == release.id]
    if pointing or "@" not in release.image:
        return pointing or [release.image]
    repository = release.repository + ":"
    followed = session.scalars(sa.select(Bot.image).distinct())
    return [image for image in followed if image.startswith(repository)]

"""Which bots a rollout may take: asked when one starts, when looking ahead, and at every tick of a running one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

from portal.models import (
    Audience,
    Bot,
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
from portal.services import fleet_settings
from portal.services.orgs.update_preferences import resolve_preferences
from portal.services.releases import releases

FAILED_STATES = frozenset({UpdateState.FAILED, UpdateState.ROLLED_BACK, UpdateState.NEEDS_ATTENTION})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bot with what decides about its updates."""

    bot: Bot
    automatic: bool
    """Its organization is in automatic mode, and the fleet does not treat everybody as manual."""
    hour_utc: int
    """The hour in which its organization wants updates."""

    @property
    def may_be_canary(self) -> bool:
        """Only a healthy bot proves anything, and only one whose data is fully protected may be risked first."""
        return self.bot.state is BotState.RUNNING and not self.bot.unprotected


def load_candidates(session: Session, *conditions: sa.ColumnElement[bool]) -> list[Candidate]:
    """Load bots with their nodes, organizations and update preferences, oldest first, without their secrets."""
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
    found = []
    for bot, config in session.execute(query).unique():
        options = resolve_preferences(config, settings)
        automatic = settings.mode is not FleetMode.MANUAL and options.mode is TenantMode.AUTO
        found.append(Candidate(bot, automatic, options.hour_utc))
    return found


def load_outdated_automatic(session: Session) -> dict[Release, list[Candidate]]:
    """Find the bots that are to be updated without anybody asking, by the release they should run.

    These are the running bots of organizations in automatic mode, on active nodes, that are behind their image's
    target and have neither failed on it nor an open update already.
    """
    wanted = releases.map_targets(session)
    conditions = [
        _runs_something_else(wanted),
        Bot.id.not_in(_with_open_update()),
        Node.state == NodeState.ACTIVE,
        Org.state == OrgState.ACTIVE,
    ]
    found: dict[Release, list[Candidate]] = {}
    failed: dict[str, set[str]] = {}
    for candidate in load_candidates(session, *conditions):
        release = wanted[candidate.bot.image]
        if exclusion_reason(candidate, release, Audience.AUTOMATIC):
            continue
        if release.id not in failed:
            failed[release.id] = list_failed_bot_ids(session, release)
        if candidate.bot.id not in failed[release.id]:
            found.setdefault(release, []).append(candidate)
    return found


def exclusion_reason(candidate: Candidate, release: Release, audience: Audience) -> SkipReason | None:
    """Say why this bot takes no part in a rollout of `release` to `audience`; None when it does."""
    bot = candidate.bot
    if releases.is_running(bot, release):
        return SkipReason.ALREADY_THERE
    if bot.org.state is not OrgState.ACTIVE or bot.needs_attention:
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
    """Load the bots an operator's rollout of `release` is about, whether or not they can be updated.

    Args:
        session: the transaction.
        release: what is to be rolled out.
        audience: AUTOMATIC or ALL.
        image: only bots that follow this reference. By default those whose tag points at the release now; where no
            tag does, those that follow the reference it was first seen under; and for a release that was never
            seen under a tag (a pasted digest), every bot of its repository.
    """
    images = [image] if image else _followers(session, release)
    found = load_candidates(session, Bot.image.in_(images))
    if audience is Audience.AUTOMATIC:
        failed = list_failed_bot_ids(session, release)
        return [candidate for candidate in found if candidate.automatic and candidate.bot.id not in failed]
    return found


def load_named(session: Session, bot_ids: Iterable[str]) -> list[Candidate]:
    """Load exactly these bots."""
    return load_candidates(session, Bot.id.in_(list(bot_ids)))


def list_failed_bot_ids(session: Session, release: Release) -> set[str]:
    """Ids of the bots that failed on this release before: trying again is a person's choice."""
    query = (
        sa.select(BotUpdate.bot_id)
        .join(BotUpdate.rollout)
        .where(Rollout.release_id == release.id, BotUpdate.state.in_(FAILED_STATES))
    )
    return set(session.scalars(query))


def _runs_something_else(wanted: Mapping[str, Release]) -> sa.ColumnElement[bool]:
    differs = [
        sa.and_(Bot.image == image, sa.or_(Bot.current_digest.is_(None), Bot.current_digest.not_in(release.digests)))
        for image, release in wanted.items()
    ]
    return sa.or_(sa.false(), *differs)


def _with_open_update() -> sa.Select[str]:
    pending = sa.and_(BotUpdate.state == UpdateState.PENDING, Rollout.state.in_(Rollout.OPEN))
    return (
        sa.select(BotUpdate.bot_id)
        .join(BotUpdate.rollout)
        .where(sa.or_(BotUpdate.state == UpdateState.RUNNING, pending))
    )


def _followers(session: Session, release: Release) -> Sequence[str]:
    pointing = [image for image, target in releases.map_targets(session).items() if target.id == release.id]
    if pointing or "@" not in release.image:
        return pointing or [release.image]
    repository = release.repository + ":"
    followed = session.scalars(sa.select(Bot.image).distinct())
    return [image for image in followed if image.startswith(repository)]

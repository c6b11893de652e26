"""Choosing the bots of a rollout somebody starts, and refusing what must not be started, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from portal.models import Audience, Bot, BotState, FleetMode, Release, SkipReason, StrategyName
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import ParameterError, parse_parameters
from portal.services import fleet_settings
from portal.services.errors import ConflictError, InvalidError
from portal.services.releases import releases
from portal.services.rollouts import eligibility as audiences
from portal.services.rollouts.eligibility import Candidate


class NothingToDoError(ConflictError):
    """No bot would be changed. Said so instead of reporting a success."""


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """What somebody wants to roll out, and to whom; nothing of it is checked yet.

    Attributes:
        release: what is to run.
        strategy: how to walk through the bots.
        parameters: of the strategy; those not given have their defaults.
        audience: organizations in automatic mode, all bots behind, or those named.
        bots: exactly these, for the audience `named`.
        image: only bots that follow this reference; see `audience.of_release` for what holds without it.
        ignore_windows: do not wait for the hour each organization prefers.
    """

    release: Release
    strategy: StrategyName
    parameters: Mapping[str, Any] = field(default_factory=dict)
    audience: Audience
    bots: Collection[Bot] = ()
    image: str | None = None
    ignore_windows: bool


def check_request(session: Session, allowlist: Allowlist, rollout_request: RolloutRequest) -> dict[str, int]:
    """Check what does not depend on bots, and give back the complete parameters.

    Raises:
        InvalidError: the image may not run here, or a parameter makes no sense.
        ConflictError: the release is quarantined, or the fleet is paused.
    """
    release = rollout_request.release
    releases.require_allowed_image(allowlist, release.image)
    if release.quarantined_at is not None:
        raise ConflictError(
            f"Release {release.version} is quarantined ({release.quarantine_reason}). Lift the quarantine first."
        )
    require_fleet_not_paused(session)
    try:
        return parse_parameters(rollout_request.strategy, rollout_request.parameters)
    except ParameterError as error:
        raise InvalidError(str(error), error.field) from None


def require_fleet_not_paused(session: Session) -> None:
    """Do nothing unless the fleet is paused.

    Raises:
        ConflictError: when it is.
    """
    if fleet_settings.get_settings(session).mode is FleetMode.PAUSED:
        raise ConflictError("The fleet is paused: no update starts until an operator ends the pause.")


def select_bots(session: Session, rollout_request: RolloutRequest) -> list[Candidate]:
    """Choose the bots a rollout takes.

    A stopped bot is among them, for it is due as soon as it runs; but there is always one that can be updated now.

    Raises:
        InvalidError: a named bot cannot be updated.
        ConflictError: what the tags point at is newer than the release.
        NothingToDoError: no bot would be changed.
    """
    if rollout_request.audience is Audience.NAMED:
        return _named(session, rollout_request.release, rollout_request.bots)
    return _all_behind(session, rollout_request.release, rollout_request.audience, rollout_request.image)


def _named(session: Session, release: Release, bots: Collection[Bot]) -> list[Candidate]:
    chosen = audiences.load_named(session, [bot.id for bot in bots])
    if not chosen:
        raise NothingToDoError("Name at least one bot.")
    for candidate in chosen:
        _require_updatable(candidate, release)
    left = [candidate for candidate in chosen if not releases.is_running(candidate.bot, release)]
    if not left:
        names = ", ".join(candidate.bot.name for candidate in chosen)
        raise NothingToDoError(f"Nothing to do: {names} runs {release.version} already.")
    return left


def _require_updatable(candidate: Candidate, release: Release) -> None:
    bot = candidate.bot
    if not bot.image.startswith((f"{release.repository}:", f"{release.repository}@")):
        raise InvalidError(f"{bot.name} runs {bot.image}, which is not an image of {release.repository}.", "bots")
    if bot.needs_attention:
        raise InvalidError(f"{bot.name} needs a person first: {bot.needs_attention}", "bots")
    reason = audiences.exclusion_reason(candidate, release, Audience.NAMED)
    if bot.state is BotState.MISSING:
        raise InvalidError(
            f"The container of {bot.name} is gone from node {bot.node.name}, so there is nothing to update.", "bots"
        )
    if reason is SkipReason.STOPPED:
        raise InvalidError(f"{bot.name} is stopped. Start it first, then update it.", "bots")
    if reason is SkipReason.NOT_ELIGIBLE:
        raise InvalidError(f"The organization of {bot.name} is being deleted.", "bots")


def _all_behind(session: Session, release: Release, audience: Audience, image: str | None) -> list[Candidate]:
    found = audiences.load_for_release(session, release, audience, image)
    _require_not_undone(session, release, {candidate.bot.image for candidate in found})
    reasons = {candidate.bot.id: audiences.exclusion_reason(candidate, release, audience) for candidate in found}
    if None not in reasons.values():
        raise NothingToDoError(_nothing_to_do(release, audience, reasons.values()))
    wanted = {None, SkipReason.STOPPED}  # a stopped bot is due again once it runs
    return [candidate for candidate in found if reasons[candidate.bot.id] in wanted]


def _require_not_undone(session: Session, release: Release, images: Collection[str]) -> None:
    targets = releases.map_targets(session)
    for image in sorted(images):
        target = targets.get(image, release)
        if target.first_seen_at > release.first_seen_at:
            raise ConflictError(
                f"{image} points at {target.version}, which is newer: automatic updates would undo this. "
                f"Roll the fleet back to {release.version} instead, which quarantines what came after it."
            )


def _nothing_to_do(release: Release, audience: Audience, reasons: Iterable[SkipReason | None]) -> str:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[str(reason)] = counts.get(str(reason), 0) + 1
    if not counts:
        if audience is Audience.AUTOMATIC:
            return (
                f"Nothing to do: no organization in automatic mode follows {release.image}. "
                "Take every bot that is behind instead, or name bots."
            )
        return f"Nothing to do: no bot follows {release.image}."
    details = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()))
    return f"Nothing to do: no bot would be changed ({details})."

"""Selection of the bots of a new rollout, and the checks before it starts. Used by starting and forecasting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from portal.models import Audience, Bot, BotPhase, BotState, Channel, FleetMode, Release, SkipReason
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import ParameterError, StrategyName, parse_parameters
from portal.services import fleet_settings
from portal.services.errors import ConflictError, InvalidError
from portal.services.releases import releases
from portal.services.rollouts import eligibility
from portal.services.rollouts.addressed_bots import AddressedBot, LeftOut, list_addressed
from portal.services.rollouts.eligibility import Candidate
from portal.services.rollouts.narrowing import Narrowing


class NothingToDoError(ConflictError):
    """The rollout would change no bot, so it is refused instead of reported as a success."""


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """An unchecked request for a rollout.

    Attributes:
        release: the release to roll out.
        strategy: name of the strategy.
        parameters: parameters of the strategy; missing ones have their defaults.
        audience: bots of organizations in automatic mode, all outdated bots, or named bots.
        bots: the bots of the audience `NAMED`.
        narrowing: what narrows down the bots of the other audiences.
        image: only bots that follow this reference; see `eligibility.list_addressed_images` for the default.
        ignore_windows: whether bots start outside the window of their organization.
    """

    release: Release
    strategy: StrategyName
    parameters: Mapping[str, Any] = field(default_factory=dict)
    audience: Audience
    bots: Collection[Bot] = ()
    narrowing: Narrowing = field(default_factory=Narrowing)
    image: str | None = None
    ignore_windows: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """The bots of a rollout.

    Attributes:
        taken: the bots that the rollout contains, oldest first.
        left_out: the bots that it does not update, and those that it updates only if they run again.
    """

    taken: Sequence[AddressedBot]
    left_out: Sequence[AddressedBot]


def check_request(session: Session, allowlist: Allowlist, rollout_request: RolloutRequest) -> dict[str, int]:
    """Check the parts of a request that do not depend on bots, and return the complete parameters.

    Raises:
        InvalidError: the allowlist does not admit the image, or a parameter is invalid.
        ConflictError: the release is quarantined, or the fleet is paused.
    """
    release = rollout_request.release
    releases.require_allowed_image(allowlist, release.image)
    if release.quarantined_at is not None:
        raise ConflictError(
            f"Release {release.version} is quarantined, so no update to it can start.",
            for_operators=f"Release {release.version} is quarantined ({release.quarantine_reason})."
            " Lift the quarantine first.",
        )
    require_fleet_not_paused(session)
    try:
        return parse_parameters(rollout_request.strategy, rollout_request.parameters)
    except ParameterError as error:
        raise InvalidError(str(error), error.field) from None


def require_fleet_not_paused(session: Session) -> None:
    """Check that the fleet is not paused.

    Raises:
        ConflictError: the fleet is paused.
    """
    if fleet_settings.get_settings(session).mode is FleetMode.PAUSED:
        raise ConflictError("The fleet is paused. No update starts until an operator resumes it.")


def select_bots(session: Session, rollout_request: RolloutRequest) -> Sequence[AddressedBot]:
    """Select the bots of a rollout, oldest first.

    Stopped bots are included, because they are due as soon as they run again. At least one bot can be updated now.

    Raises:
        InvalidError: a named bot cannot be updated.
        ConflictError: a tag points at a newer release.
        NothingToDoError: the rollout would change no bot.
    """
    return split_bots(session, rollout_request).taken


def split_bots(session: Session, rollout_request: RolloutRequest) -> Selection:
    """Select the bots of a rollout and tell which others it leaves out, see `select_bots`."""
    if rollout_request.audience is Audience.NAMED:
        return Selection(_select_named(session, rollout_request.release, rollout_request.bots), ())
    return _select_outdated(session, rollout_request)


def _select_named(session: Session, release: Release, bots: Collection[Bot]) -> list[AddressedBot]:
    candidates = eligibility.load_named(session, [bot.id for bot in bots])
    if not candidates:
        raise NothingToDoError("Choose at least one bot.")
    for candidate in candidates:
        _require_updatable(candidate, release)
    outdated = [candidate for candidate in candidates if not releases.is_running(candidate.bot, release)]
    if not outdated:
        names = ", ".join(candidate.bot.name for candidate in candidates)
        raise NothingToDoError(f"Nothing to do: {names} runs {release.version} already.")
    return [_address(candidate) for candidate in outdated]


def _address(candidate: Candidate) -> AddressedBot:
    bot = candidate.bot
    is_canary = bot.release_channel is Channel.CANARY
    return AddressedBot(
        bot.id, bot.node_id, bot.image, candidate.hour_utc, candidate.may_be_canary, is_canary, left_out=None
    )


def _require_updatable(candidate: Candidate, release: Release) -> None:
    bot = candidate.bot
    if not bot.image.startswith((f"{release.repository}:", f"{release.repository}@")):
        raise InvalidError(f"{bot.name} runs {bot.image}, which is not an image of {release.repository}.", "bots")
    if bot.phase is not BotPhase.ACTIVE:
        raise InvalidError(f"{bot.name} is {bot.phase}, so it cannot be updated.", "bots")
    if bot.needs_attention:
        # Its text holds commands and paths for operators, and customers read this message, too.
        raise InvalidError(f"{bot.name} must be repaired by an operator before it can be updated.", "bots")
    reason = eligibility.exclusion_reason(candidate, release, Audience.NAMED)
    if bot.state is BotState.MISSING:
        raise InvalidError(f"The container of {bot.name} is gone, so there is nothing to do.", "bots")
    if reason is SkipReason.STOPPED:
        raise InvalidError(f"{bot.name} is stopped. Start it first, then update it.", "bots")
    if reason is SkipReason.NOT_ELIGIBLE:
        raise InvalidError(f"The organization of {bot.name} is being deleted.", "bots")


def _select_outdated(session: Session, rollout_request: RolloutRequest) -> Selection:
    release, audience = rollout_request.release, rollout_request.audience
    bots = list_addressed(session, release, audience, rollout_request.narrowing, rollout_request.image)
    considered = [bot for bot in bots if bot.left_out not in {LeftOut.MANUAL, LeftOut.FAILED}]
    _require_newest(session, release, {bot.image for bot in considered})
    if all(bot.left_out for bot in considered):
        raise NothingToDoError(_describe_nothing_to_do(rollout_request, [bot.left_out for bot in considered]))
    taken = [bot for bot in considered if bot.left_out in {None, LeftOut.STOPPED}]
    return Selection(taken, [bot for bot in bots if bot.left_out is not None])


def _require_newest(session: Session, release: Release, images: Collection[str]) -> None:
    # Automatic updates would bring the bots to the newer release again.
    targets = releases.map_targets(session)
    for image in sorted(images):
        target = targets.get(image, release)
        if target.first_seen_at > release.first_seen_at:
            raise ConflictError(
                f"{image} points at {target.version}, which is newer. Automatic updates would undo this rollout. "
                f"Roll the fleet back to {release.version} instead, which quarantines all newer releases."
            )


def _describe_nothing_to_do(rollout_request: RolloutRequest, reasons: Sequence[LeftOut | None]) -> str:
    release = rollout_request.release
    if reasons:
        counts = Counter(str(reason) for reason in reasons)
        details = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()))
        return f"Nothing to do: no bot would be changed ({details})."
    if rollout_request.narrowing.store():
        return "Nothing to do: no bot matches. Change what narrows down the bots."
    if rollout_request.audience is Audience.AUTOMATIC:
        return (
            f"Nothing to do: no organization on automatic updates follows {release.image}. "
            "Choose all outdated bots instead, or single bots."
        )
    return f"Nothing to do: no bot follows {release.image}."

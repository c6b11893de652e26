"""Starting rollouts: start, roll the fleet back, update one bot now, retry failed bots. Used by views and commands.

These functions write only rows. The orchestrator reads the rows, starts waves and hands bots to workers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    EventTag,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    Trigger,
    UpdateState,
    User,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.errors import ConflictError, NotFoundError
from portal.services.releases import releases
from portal.services.rollouts import eligibility, selection, transitions
from portal.services.rollouts.addressed_bots import AddressedBot, is_updatable
from portal.services.rollouts.selection import NothingToDoError, RolloutRequest


class NewerReleaseError(ConflictError):
    """A newer release than the one on the page exists. Show the changelog of `release` and ask again."""

    def __init__(self, release: Release) -> None:
        super().__init__(f"{release.version} was released in the meantime. Read what is new, then update.")
        self.release = release


def get_rollout(session: Session, rollout_id: str) -> Rollout:
    """Return a rollout by its id.

    Raises:
        NotFoundError: the rollout does not exist.
    """
    rollout = session.get(Rollout, rollout_id)
    if rollout is None:
        raise NotFoundError("This rollout does not exist.")
    return rollout


def start_rollout(
    session: Session,
    allowlist: Allowlist,
    rollout_request: RolloutRequest,
    now: datetime,
    *,
    trigger: Trigger = Trigger.OPERATOR,
    actor: User | None,
) -> Rollout:
    """Start a rollout of the bots that are selected now. Later bots belong to a later rollout.

    A request that an open rollout already carries out starts no second one. A pending update of a selected bot in any
    other rollout is skipped, because the latest request takes precedence.

    Args:
        session: the transaction.
        allowlist: the images that may run.
        rollout_request: release, strategy and bots.
        now: the moment.
        trigger: who started the rollout.
        actor: the user who started the rollout.

    Returns:
        The new rollout, or the open rollout of the same request.

    Raises:
        InvalidError: a parameter is invalid, the allowlist does not admit the image, or a named bot cannot be
            updated.
        ConflictError: the release is quarantined or older than the release its image points at, or the fleet is
            paused.
        NothingToDoError: the rollout would change no bot.
    """
    _lock_release(session, rollout_request.release)
    parameters = selection.check_request(session, allowlist, rollout_request)
    selected = selection.select_bots(session, rollout_request)
    existing = _find_same_request(session, rollout_request, parameters, selected)
    if existing is not None:
        return existing
    _skip_in_other_rollouts(session, [bot.bot_id for bot in selected], now)
    rollout = _create_rollout(session, rollout_request, parameters, trigger, actor)
    add_bots(session, rollout, [bot.bot_id for bot in selected])
    facts = {"bots": len(selected), "ignore_windows": rollout_request.ignore_windows}
    transitions.record_event(session, EventTag.ROLLOUT_STARTED, rollout, actor=actor, **facts)
    return rollout


def add_bots(session: Session, rollout: Rollout, bot_ids: Sequence[str]) -> None:
    """Add a pending update for each bot, in no wave."""
    if bot_ids:
        session.execute(sa.insert(BotUpdate), [{"rollout_id": rollout.id, "bot_id": bot_id} for bot_id in bot_ids])


def roll_back_fleet(
    session: Session, allowlist: Allowlist, now: datetime, *, release: Release, reason: str, actor: User | None
) -> Rollout:
    """Start a rollout of an earlier release to the whole fleet.

    Every newer release of the repository is quarantined in the same transaction. Otherwise automatic updates would
    undo the rollout at once.

    Raises:
        InvalidError: the reason is empty, or see `start_rollout`.
        ConflictError: see `start_rollout`.
    """
    with session.begin_nested():  # undoes the quarantines when the rollout is refused
        for newer in releases.list_newer(session, release):
            releases.quarantine(session, newer, reason, now, actor=actor)
        rollout_request = RolloutRequest(
            release=release,
            strategy=StrategyName.ROLLING_WAVE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        return start_rollout(session, allowlist, rollout_request, now, actor=actor)


def update_now(
    session: Session,
    allowlist: Allowlist,
    now: datetime,
    *,
    bot: Bot,
    digest: str,
    actor: User | None,
    trigger: Trigger,
) -> Rollout:
    """Start a rollout that updates one bot to the release whose changelog its user has read, without a window.

    Two calls for the same bot and release return the same rollout.

    Args:
        session: the transaction.
        allowlist: the images that may run.
        now: the moment.
        bot: the bot.
        digest: digest of the release on the page.
        actor: the user who started the update.
        trigger: `TENANT`, or `OPERATOR` where an operator started the update.

    Raises:
        NewerReleaseError: a newer release exists.
        NothingToDoError: the bot runs the release already, or no release is known.
        ConflictError: the fleet is paused, the release is quarantined, or an operator holds the updates of the bot.
        InvalidError: the bot cannot be updated now; the message says why.
    """
    session.execute(sa.select(Bot.id).where(Bot.id == bot.id).with_for_update())  # serializes two clicks
    existing = _find_in_progress(session, bot, digest)
    if existing is not None:
        return existing
    selection.require_fleet_not_paused(session)
    if bot.held_until and trigger is Trigger.TENANT:
        raise ConflictError(f"Your provider holds the updates of {bot.name} until {bot.held_until:%Y-%m-%d}.")
    release = releases.find_target(session, bot.image)
    if release is None:
        raise NothingToDoError("There is no release to update to: none is known, or the newest is quarantined.")
    if digest not in release.digests:
        raise NewerReleaseError(release)
    rollout_request = RolloutRequest(
        release=release,
        strategy=StrategyName.SINGLE_BOT,
        audience=Audience.NAMED,
        bots=[bot],
        ignore_windows=True,
    )
    return start_rollout(session, allowlist, rollout_request, now, trigger=trigger, actor=actor)


def retry_failed(
    session: Session, allowlist: Allowlist, rollout: Rollout, now: datetime, *, actor: User | None
) -> Rollout:
    """Start a rollout of the failed bots of `rollout`, with the same strategy and without windows.

    Raises:
        NothingToDoError: no bot failed, or the failed bots run the release by now.
        ConflictError: the release is quarantined, or the fleet is paused.
    """
    bots = _list_retriable(session, rollout)
    if not bots:
        raise _nothing_to_retry()
    rollout_request = RolloutRequest(
        release=rollout.release,
        strategy=rollout.strategy,
        parameters=rollout.parameters,
        audience=Audience.NAMED,
        bots=bots,
        ignore_windows=True,
    )
    return start_rollout(session, allowlist, rollout_request, now, actor=actor)


def find_retry_refusal(session: Session, rollout: Rollout) -> ConflictError | None:
    """Return why the failed bots of a rollout cannot be retried now, except for a quarantine; None if they can."""
    try:
        selection.require_fleet_not_paused(session)
    except ConflictError as paused:
        return paused
    query = sa.select(Bot.id).join(Bot.org).where(Bot.id.in_(_select_failed(rollout)), is_updatable(rollout.release))
    return _nothing_to_retry() if session.scalar(query.limit(1)) is None else None


def _nothing_to_retry() -> NothingToDoError:
    return NothingToDoError("This rollout has no failed bot that can be retried.")


def _list_retriable(session: Session, rollout: Rollout) -> list[Bot]:
    return [
        candidate.bot
        for candidate in eligibility.load_candidates(session, Bot.id.in_(_select_failed(rollout)))
        if eligibility.exclusion_reason(candidate, rollout.release, Audience.NAMED) is None
    ]


def _select_failed(rollout: Rollout) -> sa.Select[str]:
    return sa.select(BotUpdate.bot_id).where(
        BotUpdate.rollout_id == rollout.id, BotUpdate.state.in_((UpdateState.FAILED, UpdateState.ROLLED_BACK))
    )


def _lock_release(session: Session, release: Release) -> None:
    """Serialize simultaneous starts, so that the second one finds the rollout of the first one."""
    session.execute(sa.select(Release.id).where(Release.id == release.id).with_for_update(key_share=True))


def _create_rollout(
    session: Session,
    rollout_request: RolloutRequest,
    parameters: Mapping[str, int],
    trigger: Trigger,
    actor: User | None,
) -> Rollout:
    rollout = Rollout(
        release=rollout_request.release,
        strategy=rollout_request.strategy,
        parameters=parameters,
        trigger=trigger,
        audience=rollout_request.audience,
        ignore_windows=rollout_request.ignore_windows,
        selection=rollout_request.narrowing.store(),
        started_by=actor.id if actor else None,
    )
    session.add(rollout)
    session.flush()
    return rollout


def _find_same_request(
    session: Session, rollout_request: RolloutRequest, parameters: Mapping[str, int], selected: Sequence[AddressedBot]
) -> Rollout | None:
    """Find a rollout that was started by hand with the same settings and updates each of these bots now or later."""
    candidates = session.scalars(
        sa.select(Rollout).where(
            Rollout.release_id == rollout_request.release.id,
            Rollout.state.in_({RolloutState.SCHEDULED, RolloutState.RUNNING}),
            Rollout.trigger != Trigger.AUTO,
            Rollout.strategy == rollout_request.strategy,
            Rollout.audience == rollout_request.audience,
            Rollout.ignore_windows == rollout_request.ignore_windows,
        )
    )
    bot_ids = {bot.bot_id for bot in selected}
    for rollout in candidates:
        open_updates = sa.select(BotUpdate.bot_id).where(BotUpdate.rollout_id == rollout.id, BotUpdate.is_open())
        if rollout.parameters == parameters and bot_ids <= set(session.scalars(open_updates)):
            return rollout
    return None


def _skip_in_other_rollouts(session: Session, bot_ids: Collection[str], now: datetime) -> None:
    session.execute(
        sa.update(BotUpdate)
        .where(BotUpdate.bot_id.in_(bot_ids), BotUpdate.state == UpdateState.PENDING)
        .values(state=UpdateState.SKIPPED, **BotUpdate.skip_values(SkipReason.TAKEN_BY_HAND, now))
    )


def _find_in_progress(session: Session, bot: Bot, digest: str) -> Rollout | None:
    """Find the rollout that updates the bot to the release now, or will do so without waiting for a window."""
    pending_without_window = sa.and_(
        BotUpdate.state == UpdateState.PENDING,
        Rollout.audience == Audience.NAMED,
        Rollout.ignore_windows,
        Rollout.state.in_({RolloutState.SCHEDULED, RolloutState.RUNNING}),
    )
    query = (
        sa.select(Rollout)
        .join(BotUpdate, BotUpdate.rollout_id == Rollout.id)
        .join(Rollout.release)
        .where(
            BotUpdate.bot_id == bot.id,
            Release.digest == digest,
            sa.or_(BotUpdate.state == UpdateState.RUNNING, pending_without_window),
        )
    )
    return session.scalar(query.limit(1))

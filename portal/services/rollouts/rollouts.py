"""Rollouts as people handle them: start, roll back, "Update now", pause, resume, abort, retry.

These verbs only write down what is wanted. The orchestrator reads it, cuts waves and hands bots to the workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, joinedload

from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    EventTag,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    StrategyName,
    Trigger,
    UpdateState,
    User,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.services.errors import ConflictError, NotFoundError
from portal.services.releases import releases
from portal.services.rollouts import eligibility as audiences
from portal.services.rollouts import selection, transitions
from portal.services.rollouts.eligibility import Candidate
from portal.services.rollouts.selection import NothingToDoError, RolloutRequest

__all__ = [
    "NewerReleaseError",
    "NothingToDoError",
    "Summary",
    "Wish",
    "abort",
    "add_bots",
    "forecast",
    "get",
    "list_recent",
    "pause",
    "resume",
    "retry_failed",
    "roll_back",
    "start",
    "summary",
    "update_now",
]


class NewerReleaseError(ConflictError):
    """The release that was shown is no longer the newest: show the changelog of `release` and ask again."""

    def __init__(self, release: Release) -> None:
        super().__init__(f"Meanwhile {release.version} came out. Read what is new and press again.")
        self.release = release


def get_rollout(session: Session, rollout_id: str) -> Rollout:
    """Find a rollout by its id.

    Raises:
        NotFoundError: when there is none.
    """
    rollout = session.get(Rollout, rollout_id)
    if rollout is None:
        raise NotFoundError("There is no such rollout.")
    return rollout


def list_recent_rollouts(session: Session, limit: int = 50) -> Sequence[Rollout]:
    """List rollouts with their releases, those under way first, then the latest."""
    query = (
        sa.select(Rollout)
        .options(joinedload(Rollout.release), joinedload(Rollout.starter))
        .order_by(Rollout.state.in_(Rollout.OPEN).desc(), Rollout.created_at.desc(), Rollout.id)
    )
    return session.scalars(query.limit(limit)).all()


def start_rollout(
    session: Session,
    allowlist: Allowlist,
    rollout_request: RolloutRequest,
    *,
    trigger: Trigger = Trigger.OPERATOR,
    actor: User | None,
) -> Rollout:
    """Begin to bring bots to a release. Their rows are made now; bots that come later belong to a later rollout.

    Bots that another rollout has not begun with are taken out of it, for the latest decision of a person counts.

    Args:
        session: the transaction.
        allowlist: which images may run here.
        wish: what is wanted, for whom.
        trigger: who wanted it.
        actor: the user who did.

    Raises:
        InvalidError: a parameter makes no sense, the image may not run here, or a named bot cannot be updated.
        ConflictError: the release is quarantined or older than what its image points at, or the fleet is paused.
        NothingToDoError: no bot would be changed.
    """
    checked = selection.check_request(session, allowlist, rollout_request)
    chosen = selection.select_bots(session, rollout_request)
    rollout = Rollout(
        release=rollout_request.release,
        strategy=rollout_request.strategy,
        parameters=checked,
        trigger=trigger,
        audience=rollout_request.audience,
        ignore_windows=rollout_request.ignore_windows,
        started_by=actor.id if actor else None,
    )
    session.add(rollout)
    session.flush()
    _take_out_of_others(session, [candidate.bot.id for candidate in chosen])
    add_bots(session, rollout, chosen)
    transitions.record_event(
        session,
        EventTag.ROLLOUT_STARTED,
        rollout,
        actor,
        bots=len(chosen),
        ignore_windows=rollout_request.ignore_windows,
    )
    return rollout


def add_bots(session: Session, rollout: Rollout, chosen: Iterable[Candidate]) -> None:
    """Give each bot its part in the rollout: pending, in no wave yet."""
    session.add_all(BotUpdate(rollout_id=rollout.id, bot_id=candidate.bot.id) for candidate in chosen)
    session.flush()


def roll_back_fleet(
    session: Session, allowlist: Allowlist, *, release: Release, reason: str, actor: User | None
) -> Rollout:
    """Bring the whole fleet back to an earlier release.

    Every newer release of its repository is quarantined in the same transaction, for otherwise automatic updates
    would undo it at once.

    Raises:
        InvalidError: without a reason; and whatever `start` raises.
        ConflictError: see `start`.
    """
    with session.begin_nested():  # a refusal must leave no quarantine behind
        for newer in releases.list_newer(session, release):
            releases.quarantine(session, newer, reason, actor)
        rollout_request = RolloutRequest(
            release=release,
            strategy=StrategyName.ROLLING_WAVE,
            audience=Audience.ALL,
            ignore_windows=True,
        )
        return start_rollout(session, allowlist, rollout_request, actor=actor)


def update_now(
    session: Session, allowlist: Allowlist, *, bot: Bot, digest: str, actor: User | None, trigger: Trigger
) -> Rollout:
    """Update one bot to the release its user has just read about, whatever the hour.

    Pressed twice, or by two people, it makes one rollout.

    Args:
        session: the transaction.
        allowlist: which images may run here.
        bot: the bot.
        digest: of the release whose changelog was shown.
        actor: the user who pressed.
        trigger: `tenant`, or `operator` where one did it for them.

    Raises:
        NewerReleaseError: another release came out since the changelog was shown.
        NothingToDoError: the bot runs it already, or no release is known.
        ConflictError: the fleet is paused, or the release is quarantined.
        InvalidError: the bot cannot be updated now; the text says why.
    """
    session.execute(sa.select(Bot.id).where(Bot.id == bot.id).with_for_update())  # two clicks: one after the other
    under_way = _under_way(session, bot, digest)
    if under_way is not None:
        return under_way
    selection.require_fleet_not_paused(session)
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
    return start_rollout(session, allowlist, rollout_request, trigger=trigger, actor=actor)


def retry_failed(session: Session, allowlist: Allowlist, rollout: Rollout, actor: User | None) -> Rollout:
    """Try the bots that failed once more, in a rollout of their own with the same strategy, at once.

    Raises:
        NothingToDoError: when none failed, or those that did run the release meanwhile.
        ConflictError: when the release is quarantined or the fleet is paused.
    """
    failed = sa.select(BotUpdate.bot_id).where(
        BotUpdate.rollout_id == rollout.id, BotUpdate.state.in_({UpdateState.FAILED, UpdateState.ROLLED_BACK})
    )
    again = [
        candidate.bot
        for candidate in audiences.load_candidates(session, Bot.id.in_(failed))
        if audiences.exclusion_reason(candidate, rollout.release, Audience.NAMED) is None
    ]
    if not again:
        raise NothingToDoError("No bot of this rollout is left to try again.")
    rollout_request = RolloutRequest(
        release=rollout.release,
        strategy=rollout.strategy,
        parameters=rollout.parameters,
        audience=Audience.NAMED,
        bots=again,
        ignore_windows=True,
    )
    return start_rollout(session, allowlist, rollout_request, actor=actor)


def _take_out_of_others(session: Session, bot_ids: Collection[str]) -> None:
    session.execute(
        sa.update(BotUpdate)
        .where(BotUpdate.bot_id.in_(bot_ids), BotUpdate.state == UpdateState.PENDING)
        .values(state=UpdateState.SKIPPED, **BotUpdate.left_out(SkipReason.TAKEN_BY_HAND, utcnow()))
    )


def _under_way(session: Session, bot: Bot, digest: str) -> Rollout | None:
    query = (
        sa.select(Rollout)
        .join(BotUpdate, BotUpdate.rollout_id == Rollout.id)
        .join(Rollout.release)
        .where(
            BotUpdate.bot_id == bot.id,
            Release.digest == digest,
            sa.or_(
                BotUpdate.state == UpdateState.RUNNING,
                # Pending in a wave that waits for its hour is not what was pressed for; pending by hand is.
                sa.and_(
                    BotUpdate.state == UpdateState.PENDING,
                    Rollout.audience == Audience.NAMED,
                    Rollout.ignore_windows,
                    Rollout.state.in_({RolloutState.SCHEDULED, RolloutState.RUNNING}),
                ),
            ),
        )
    )
    return session.scalar(query.limit(1))

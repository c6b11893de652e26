"""Mail about updates: to owner and admins of an organization, and to operators where a bot is stuck.

Everybody gets each kind of mail once per organization and release, however often its reason comes up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotUpdate,
    Channel,
    Membership,
    MembershipRole,
    MembershipState,
    Org,
    OrgState,
    PolledImage,
    Release,
    Rollout,
    UpdateState,
    User,
)
from portal.services.mail import outbox
from portal.services.releases import releases
from portal.services.rollouts import eligibility

_OPEN = (UpdateState.PENDING, UpdateState.RUNNING)


def notify_update_available(session: Session, release: Release) -> None:
    """A release can be read about now: tell the organizations that have to ask for it themselves."""
    for org_id, person in _managers(session, {bot.org_id for bot in list_waiting_bots(session, release)}):
        outbox.queue_mail(
            session,
            to=person.email,
            template="update_available",
            dedupe_key=f"update_available:{org_id}:{release.id}:{person.id}",
            context={"org_id": org_id, "release_id": release.id, "user_id": person.id},
        )


def list_waiting_bots(session: Session, release: Release, org_id: str | None = None) -> list[Bot]:
    """The bots that could run this release, and will not unless somebody of their organization asks."""
    if release.quarantined_at is not None:
        return []
    images = sa.select(PolledImage.image).where(PolledImage.release_id == release.id)
    conditions = [Bot.image.in_(images), Bot.release_channel != Channel.PINNED, Org.state == OrgState.ACTIVE]
    if org_id is not None:
        conditions.append(Bot.org_id == org_id)
    return [
        candidate.bot
        for candidate in eligibility.load_candidates(session, *conditions)
        if not candidate.automatic
        and not candidate.bot.needs_attention
        and not releases.is_running(candidate.bot, release)
    ]


def notify_outcome(session: Session, rollout: Rollout, org_id: str | None = None) -> None:
    """Some bots of a rollout have ended: tell each organization of which none is left how it went.

    Args:
        session: the transaction.
        rollout: the rollout.
        org_id: the organization whose bots ended; by default every one of the rollout.
    """
    templates = {
        ended: "updated" if succeeded else "update_failed"
        for ended, succeeded, failed in _ended(session, rollout, org_id)
        if succeeded or failed
    }
    letters = {
        f"{templates[ended]}:{ended}:{rollout.release_id}:{person.id}": (ended, person)
        for ended, person in _managers(session, templates)
    }
    # At the end of a rollout nearly everybody has been told, bot by bot, so that is asked about all at once.
    told = outbox.find_by_dedupe_key(session, letters)
    for dedupe_key, (ended, person) in letters.items():
        if dedupe_key in told:
            continue
        outbox.queue_mail(
            session,
            to=person.email,
            template=templates[ended],
            dedupe_key=dedupe_key,
            context={"org_id": ended, "rollout_id": rollout.id, "user_id": person.id},
        )


def notify_rollback_failed(session: Session, update: BotUpdate) -> None:
    """A bot could not be brought back: tell every operator what to do."""
    _post_to_operators(session, "rollback_failed", f"{update.id}:{update.attempt}", {"update_id": update.id})


def notify_rollout_stopped(session: Session, rollout: Rollout) -> None:
    """A rollout was paused or aborted by itself: tell every operator why."""
    occasion = f"{rollout.id}:{rollout.state}:{rollout.resumed_at}"  # once resumed, it may stand still again
    _post_to_operators(session, "rollout_stopped", occasion, {"rollout_id": rollout.id})


def _post_to_operators(session: Session, template: str, occasion: str, context: dict[str, str]) -> None:
    operators = sa.select(User).where(User.is_platform_admin, User.disabled_at.is_(None))
    for person in session.scalars(operators):
        dedupe_key = f"{template}:{occasion}:{person.id}"
        outbox.queue_mail(session, to=person.email, template=template, dedupe_key=dedupe_key, context=context)


def _ended(session: Session, rollout: Rollout, org_id: str | None) -> Iterable[tuple[str, int, int]]:
    """Organizations without open updates, and how many of their bots were updated and how many failed for good."""

    def count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    failed = BotUpdate.state.in_(eligibility.FAILED_STATES) & ~BotUpdate.transient
    query = (
        sa.select(Bot.org_id, count(BotUpdate.state == UpdateState.UPDATED), count(failed))
        .join(BotUpdate, BotUpdate.bot_id == Bot.id)
        .where(BotUpdate.rollout_id == rollout.id)
        .group_by(Bot.org_id)
        .having(count(BotUpdate.state.in_(_OPEN)) == 0)
    )
    if org_id is not None:
        query = query.where(Bot.org_id == org_id)
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def _managers(session: Session, org_ids: Collection[str]) -> list[tuple[str, User]]:
    """The owners and the admins of these organizations, each with the id of the organization."""
    manages = sa.or_(Membership.role == MembershipRole.ADMIN, Org.owner_id == User.id)
    query = (
        sa.select(Org.id, User)
        .join(Membership, Membership.user_id == User.id)
        .join(Org, Org.id == Membership.org_id)
        .where(
            Org.id.in_(org_ids),
            Org.state == OrgState.ACTIVE,
            Membership.state == MembershipState.ACTIVE,
            User.disabled_at.is_(None),
            manages,
        )
        .order_by(Org.id, User.id)
    )
    return [(row[0], row[1]) for row in session.execute(query)]

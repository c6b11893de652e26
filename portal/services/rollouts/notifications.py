"""Mails about updates, to owner and admins of an organization and to operators. Used by outcomes and transitions.

Each user gets each mail about an outcome once per organization and release. Releases that become available in a row
make one mail about the newest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotPhase,
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
from portal.tokens import fingerprint

COLLECT_RELEASES = timedelta(minutes=10)
"""How long a mail about a release waits for a newer release of the same image."""
RELEASE_MAIL_SPACING = timedelta(days=1)
"""The time between two mails about releases of one image to the same user."""

_OPEN = (UpdateState.PENDING, UpdateState.RUNNING)


def notify_update_available(
    session: Session, release: Release, now: datetime, collect: timedelta = COLLECT_RELEASES
) -> None:
    """Mail a release whose changelog was read to the organizations that have to start the update themselves.

    Args:
        session: the transaction.
        release: the release.
        now: the current moment.
        collect: how long the mail waits for a newer release of the same image.
    """
    images: dict[str, set[str]] = {}
    for bot in list_waiting_bots(session, release):
        images.setdefault(bot.org_id, set()).add(bot.image)
    for org_id, user in _list_managers(session, images):
        for image in sorted(images[org_id]):
            outbox.queue_newest(
                session,
                to=user.email,
                template="update_available",
                dedupe_key=f"update_available:{org_id}:{user.id}:{fingerprint(image)}",
                context={"org_id": org_id, "user_id": user.id, "image": image, "release_id": release.id},
                collect=collect,
                spacing=RELEASE_MAIL_SPACING,
                now=now,
            )


def list_waiting_bots(session: Session, release: Release, org_id: str | None = None) -> list[Bot]:
    """List the outdated bots of this release that are not updated automatically."""
    if release.quarantined_at is not None:
        return []
    images = sa.select(PolledImage.image).where(PolledImage.release_id == release.id)
    conditions = [
        Bot.image.in_(images),
        Bot.phase == BotPhase.ACTIVE,
        Bot.release_channel != Channel.PINNED,
        Bot.held_until.is_(None),
        Bot.skipped_release_id.is_distinct_from(release.id),
        Org.state == OrgState.ACTIVE,
    ]
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
    """Mail the outcome of a rollout to each organization whose bots have all ended.

    Args:
        session: the transaction.
        rollout: the rollout.
        org_id: the organization whose bot ended; by default all organizations of the rollout.
    """
    templates = {
        ended: "updated" if succeeded else "update_failed"
        for ended, succeeded, failed in _count_outcomes(session, rollout, org_id)
        if succeeded or failed
    }
    recipients = {
        f"{templates[ended]}:{ended}:{rollout.release_id}:{user.id}": (ended, user)
        for ended, user in _list_managers(session, templates)
    }
    # At the end of a rollout most mails exist already, so one query finds them all.
    queued = outbox.find_by_dedupe_key(session, recipients)
    for dedupe_key, (ended, user) in recipients.items():
        if dedupe_key in queued:
            continue
        outbox.queue_mail(
            session,
            to=user.email,
            template=templates[ended],
            dedupe_key=dedupe_key,
            context={"org_id": ended, "rollout_id": rollout.id, "user_id": user.id},
        )


def notify_rollback_failed(session: Session, update: BotUpdate) -> None:
    """Mail the instructions for a bot whose rollback failed to every operator, each time it has failed."""
    occasion = f"{update.id}:{update.ended_at}"  # a rollback that is continued may fail again
    outbox.queue_for_operators(session, "rollback_failed", occasion, {"update_id": update.id})


def notify_rollout_stopped(session: Session, rollout: Rollout) -> None:
    """Mail the reason of an automatic pause or abort to every operator."""
    occasion = f"{rollout.id}:{rollout.state}:{rollout.resumed_at}"  # a resumed rollout may stall again
    outbox.queue_for_operators(session, "rollout_stopped", occasion, {"rollout_id": rollout.id})


def _count_outcomes(session: Session, rollout: Rollout, org_id: str | None) -> Iterable[tuple[str, int, int]]:
    """Count updated and finally failed bots of each organization that has no open update in the rollout."""

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


def _list_managers(session: Session, org_ids: Collection[str]) -> list[tuple[str, User]]:
    """List owner and admins of these organizations, each with the id of the organization."""
    is_manager = sa.or_(Membership.role == MembershipRole.ADMIN, Org.owner_id == User.id)
    query = (
        sa.select(Org.id, User)
        .join(Membership, Membership.user_id == User.id)
        .join(Org, Org.id == Membership.org_id)
        .where(
            Org.id.in_(org_ids),
            Org.state == OrgState.ACTIVE,
            Membership.state == MembershipState.ACTIVE,
            User.disabled_at.is_(None),
            is_manager,
        )
        .order_by(Org.id, User.id)
    )
    return [(row[0], row[1]) for row in session.execute(query)]

"""Update offers: the changelogs a user reads before an update, and the answer "Later". Used by pages of a bot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from portal.models import Bot, Release, UpdateNotice, User
from portal.rules.references import parse_reference
from portal.services.releases import releases


class Reminder(StrEnum):
    """When a user wants to be asked again. The badge stays, and a newer release is offered at once."""

    TOMORROW = "tomorrow"
    NEXT_WEEK = "next_week"

    @property
    def delay(self) -> timedelta:
        """The time until the reminder."""
        return timedelta(days=1 if self is Reminder.TOMORROW else 7)


@dataclass(frozen=True)
class UpdateOffer:
    """An update that a bot can take."""

    release: Release
    news: Sequence[Release]
    """Every release after the current one, newest first. The page shows their changelogs together."""


def find_offer(session: Session, bot: Bot) -> UpdateOffer | None:
    """Return the update offer for a bot; None when the bot is up to date or pinned."""
    release = releases.find_update(session, bot)
    if release is None:
        return None
    return UpdateOffer(release=release, news=_list_news(session, bot, release))


def snooze(session: Session, bot: Bot, user: User, release: Release, reminder: Reminder, *, now: datetime) -> None:
    """Hide the offer of a release for this user and bot until the reminder."""
    until = now + reminder.delay
    session.merge(UpdateNotice(user_id=user.id, bot_id=bot.id, release_id=release.id, snoozed_until=until))
    session.flush()


def load_snoozes(session: Session, user: User, now: datetime) -> dict[tuple[str, str], datetime]:
    """Return until when offers are hidden for this user, by bot id and release id."""
    query = sa.select(UpdateNotice).where(UpdateNotice.user_id == user.id, UpdateNotice.snoozed_until > now)
    return {(notice.bot_id, notice.release_id): notice.snoozed_until for notice in session.scalars(query)}


def _list_news(session: Session, bot: Bot, target: Release) -> Sequence[Release]:
    """List the releases after the current one up to `target`, newest first, without quarantined ones."""
    of_repository = sa.select(Release).where(Release.repository == parse_reference(bot.image).name)
    current = next((known for known in session.scalars(of_repository) if releases.is_running(bot, known)), None)
    if current is None:
        return [target]
    between = of_repository.options(undefer(Release.changelog)).where(
        Release.first_seen_at > current.first_seen_at,
        Release.first_seen_at <= target.first_seen_at,
        Release.quarantined_at.is_(None),
    )
    return session.scalars(between.order_by(Release.first_seen_at.desc())).all() or [target]

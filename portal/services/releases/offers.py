"""The offer of an update as people see it: what is new, and "Later"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Release, UpdateNotice, User
from portal.rules.references import parse_reference
from portal.services.releases import releases

SNOOZE = timedelta(hours=48)
"""How long "Later" holds. The badge stays meanwhile, and a newer release asks again."""


@dataclass(frozen=True)
class UpdateOffer:
    """An update a bot may take."""

    release: Release
    news: Sequence[Release]
    """Every release since the one that runs, the newest first: their changelogs are shown together."""


def find_offer(session: Session, bot: Bot) -> UpdateOffer | None:
    """The update this bot may take; None when it runs what it should."""
    release = releases.find_update(session, bot)
    if release is None:
        return None
    return UpdateOffer(release=release, news=_since(session, bot, release))


def snooze(session: Session, bot: Bot, user: User, release: Release, now: datetime) -> None:
    """Remember "Later" for this person, bot and release."""
    session.merge(UpdateNotice(user_id=user.id, bot_id=bot.id, release_id=release.id, snoozed_until=now + SNOOZE))
    session.flush()


def load_snoozes(session: Session, user: User, now: datetime) -> dict[tuple[str, str], datetime]:
    """Until when this person does not want to be asked, by the ids of bot and release."""
    query = sa.select(UpdateNotice).where(UpdateNotice.user_id == user.id, UpdateNotice.snoozed_until > now)
    return {(notice.bot_id, notice.release_id): notice.snoozed_until for notice in session.scalars(query)}


def _since(session: Session, bot: Bot, target: Release) -> Sequence[Release]:
    """The releases after the one that runs up to `target`, without those that were quarantined in between."""
    same = sa.select(Release).where(Release.repository == parse_reference(bot.image).name)
    current = next((known for known in session.scalars(same) if releases.is_running(bot, known)), None)
    if current is None:
        return [target]
    between = same.where(
        Release.first_seen_at > current.first_seen_at,
        Release.first_seen_at <= target.first_seen_at,
        Release.quarantined_at.is_(None),
    )
    return session.scalars(between.order_by(Release.first_seen_at.desc())).all() or [target]

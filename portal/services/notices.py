"""The offer of an update as one person sees it: badge, what is new, and "Later"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Release, UpdateNotice, User
from portal.rules.references import parse_reference
from portal.services import releases

SNOOZE = timedelta(hours=48)
"""How long "Later" holds. The badge stays meanwhile, and a newer release asks again."""


@dataclass(frozen=True)
class Offer:
    """An update a bot may take."""

    release: Release
    news: Sequence[Release]
    """Every release since the one that runs, the newest first: their changelogs are shown together."""
    snoozed: bool
    """The person said "Later" to this very release not long ago."""


def offer(session: Session, bot: Bot, user: User, now: datetime) -> Offer | None:
    """The update this bot may take; None when it runs what it should."""
    release = releases.behind(session, bot)
    if release is None:
        return None
    notice = session.get(UpdateNotice, (user.id, bot.id, release.id))
    return Offer(
        release=release,
        news=_since(session, bot, release),
        snoozed=notice is not None and now < notice.snoozed_until,
    )


def snooze(session: Session, bot: Bot, user: User, release: Release, now: datetime) -> None:
    """Remember "Later" for this person, bot and release."""
    session.merge(UpdateNotice(user_id=user.id, bot_id=bot.id, release_id=release.id, snoozed_until=now + SNOOZE))
    session.flush()


def _since(session: Session, bot: Bot, target: Release) -> Sequence[Release]:
    """The releases after the one that runs up to `target`, without those that were quarantined in between."""
    same = sa.select(Release).where(Release.repository == parse_reference(bot.image).name)
    current = next((known for known in session.scalars(same) if releases.runs(bot, known)), None)
    if current is None:
        return [target]
    between = same.where(
        Release.first_seen_at > current.first_seen_at,
        Release.first_seen_at <= target.first_seen_at,
        Release.quarantined_at.is_(None),
    )
    return session.scalars(between.order_by(Release.first_seen_at.desc())).all() or [target]

"""Skipped releases: an organization does not want one release for a bot. Used by the pages of a bot.

Automatic updates leave the bot out until a newer release exists. Rollouts that an operator starts for all bots or for
this bot update it, as they update the bots of organizations in manual mode.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Audience, Bot, BotUpdate, EventTag, Release, Rollout, UpdateState, User
from portal.services import events
from portal.services.errors import ConflictError
from portal.services.releases import releases
from portal.services.rollouts.rollouts import NewerReleaseError


def skip(session: Session, bot: Bot, digest: str, *, actor: User) -> Release:
    """Skip the release that is offered for a bot. An automatic update that waits is skipped at the next tick.

    Args:
        session: a writing transaction.
        bot: the bot.
        digest: digest of the release on the page.
        actor: an owner, admin or operator.

    Returns:
        The skipped release.

    Raises:
        NewerReleaseError: a newer release exists.
        ConflictError: there is no update to skip, or it has started.
    """
    session.refresh(bot, with_for_update=True)
    release = releases.find_update(session, bot)
    if release is None:
        raise ConflictError(f"There is no update of {bot.name} to skip.")
    if digest not in release.digests:
        raise NewerReleaseError(release)
    if _is_started(session, bot):
        raise ConflictError(f"The update of {bot.name} has been started, so it cannot be skipped.")
    if not bot.skips(release):
        bot.skipped_release_id = release.id
        _record_event(session, EventTag.BOT_RELEASE_SKIPPED, bot, release.version, actor)
    session.flush()
    return release


def end_skip(session: Session, bot: Bot, *, actor: User) -> None:
    """Offer the skipped release again, also to automatic updates.

    Raises:
        ConflictError: the bot skips no release.
    """
    session.refresh(bot, with_for_update=True)
    if bot.skipped_release_id is None:
        raise ConflictError(f"{bot.name} skips no version.")
    version = releases.find_version(session, bot.skipped_release_id)
    bot.skipped_release_id = None
    session.flush()
    _record_event(session, EventTag.BOT_SKIP_ENDED, bot, version, actor)


def _is_started(session: Session, bot: Bot) -> bool:
    """Return whether an update of the bot runs, or waits in a rollout that does not follow the organization."""
    waits = sa.and_(BotUpdate.state == UpdateState.PENDING, Rollout.audience != Audience.AUTOMATIC)
    query = (
        sa.select(BotUpdate.id)
        .join(BotUpdate.rollout)
        .where(BotUpdate.bot_id == bot.id, sa.or_(BotUpdate.state == UpdateState.RUNNING, waits))
    )
    return session.scalar(query.limit(1)) is not None


def _record_event(session: Session, tag: EventTag, bot: Bot, version: str, actor: User) -> None:
    events.record(session, tag, actor=actor, org_id=bot.org_id, bot_id=bot.id, data={"version": version})

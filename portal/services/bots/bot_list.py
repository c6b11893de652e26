"""Lists of bots with current release, target release and latest update. Used by pages and `flotilla bots list`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased, contains_eager, defer

from portal.models import (
    Bot,
    BotPhase,
    BotUpdate,
    Channel,
    Org,
    Release,
    Rollout,
    UpdateState,
)
from portal.rules.references import parse_reference
from portal.services.releases import releases

WITHOUT_SECRETS = (defer(Bot.spec), defer(Bot.provision_secret))
_WITHOUT_DETAILS = (
    *(defer(BotUpdate.saved_container), defer(BotUpdate.journal)),
    *(defer(BotUpdate.timings), defer(BotUpdate.log_tail)),
)


@dataclass(frozen=True)
class BotRow:
    """One row of a list of bots."""

    bot: Bot
    runs: Release | None
    """Current release; None when no registry has the digest of the bot."""
    available: Release | None
    """Target release if the bot is outdated; None otherwise."""
    update: BotUpdate | None
    """Latest update, finished or running."""

    @property
    def is_offered(self) -> bool:
        """Whether an update is available that is not skipped and that no one has started yet."""
        if self.available is None or self.bot.skips(self.available) or self.bot.needs_attention is not None:
            return False
        if self.update is None or self.update.state not in {UpdateState.PENDING, UpdateState.RUNNING}:
            return True
        return self.update.state is UpdateState.PENDING and not self.update.rollout.ignore_windows


def list_for_org(session: Session, org: Org) -> list[BotRow]:
    """Return the bots of one organization, by name."""
    query = sa.select(Bot).where(Bot.org_id == org.id, Bot.phase != BotPhase.REMOVED).options(*WITHOUT_SECRETS)
    return build_rows(session, session.scalars(query.order_by(Bot.name, Bot.id)).all())


def build_rows(session: Session, bots: Sequence[Bot]) -> list[BotRow]:
    """Build the rows of a list of bots."""
    by_digest = map_releases_by_digest(session, {_repository(bot) for bot in bots})
    targets = releases.map_targets(session)
    updates = _latest_updates(session, [bot.id for bot in bots])
    return [
        BotRow(
            bot=bot,
            runs=by_digest.get((_repository(bot), bot.current_digest)),
            available=_target_if_outdated(bot, targets.get(bot.image)),
            update=updates.get(bot.id),
        )
        for bot in bots
    ]


def map_releases_by_digest(session: Session, repositories: Iterable[str]) -> dict[tuple[str, str | None], Release]:
    """Map repository and digest, in each form that an engine may report, to the release."""
    known = session.scalars(sa.select(Release).where(Release.repository.in_(list(repositories))))
    return {(release.repository, digest): release for release in known for digest in release.digests}


def _repository(bot: Bot) -> str:
    return parse_reference(bot.image).name


def _target_if_outdated(bot: Bot, target: Release | None) -> Release | None:
    if (
        target is None
        or bot.phase is not BotPhase.ACTIVE
        or bot.release_channel is Channel.PINNED
        or bot.held_until is not None
        or releases.is_running(bot, target)
    ):
        return None
    return target


def select_latest_update() -> sa.ScalarSelect[str]:
    """Select the id of a bot's latest update that was not skipped, for a query that contains `Bot`."""
    candidate = aliased(BotUpdate)
    return (
        sa.select(candidate.id)
        .where(candidate.bot_id == Bot.id, candidate.state != UpdateState.SKIPPED)
        .order_by(candidate.created_at.desc(), candidate.id.desc())
        .limit(1)
        .correlate(Bot)
        .scalar_subquery()
    )


def _latest_updates(session: Session, bot_ids: Sequence[str]) -> dict[str, BotUpdate]:
    query = (
        sa.select(BotUpdate)
        .join(BotUpdate.rollout)
        .join(Rollout.release)
        .where(BotUpdate.id.in_(sa.select(select_latest_update()).where(Bot.id.in_(bot_ids))))
        .options(contains_eager(BotUpdate.rollout).contains_eager(Rollout.release), *_WITHOUT_DETAILS)
    )
    return {update.bot_id: update for update in session.scalars(query)}


def load_by_ids(session: Session, bot_ids: Iterable[str]) -> Sequence[Bot]:
    """Return the bots with these ids. Unknown ids are ignored."""
    return session.scalars(sa.select(Bot).where(Bot.id.in_(list(bot_ids))).options(*WITHOUT_SECRETS)).all()


def list_for_repository(session: Session, repository: str) -> Sequence[Bot]:
    """Return the bots that follow any tag of a repository, by organization and name."""
    query = (
        sa.select(Bot)
        .join(Bot.org)
        .where(Bot.phase == BotPhase.ACTIVE, Bot.image.startswith(f"{repository}:", autoescape=True))
        .options(contains_eager(Bot.org), *WITHOUT_SECRETS)
    )
    return session.scalars(query.order_by(Org.name, Bot.name)).all()

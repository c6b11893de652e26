"""The bots of the fleet as lists show them: with the release they run and the one they should run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, defer

from portal.models import Bot, BotState, BotUpdate, Channel, Node, Org, OrgState, Release, Rollout, UpdateState
from portal.rules.references import parse_reference
from portal.services.paging import Page, load_page
from portal.services.releases import releases

BOTS_PER_PAGE = 100
_WITHOUT_SECRETS = (defer(Bot.spec), defer(Bot.provision_secret))


class BotFilter(StrEnum):
    """What operators narrow the list to."""

    ALL = "all"
    BEHIND = "behind"
    UPDATING = "updating"
    UNWELL = "unwell"
    STOPPED = "stopped"
    ATTENTION = "attention"


@dataclass(frozen=True)
class BotRow:
    """One bot of a list."""

    bot: Bot
    runs: Release | None
    """The release it runs; None for a digest that was never seen in a registry."""
    behind: Release | None
    """The release it should run and does not."""
    update: BotUpdate | None
    """What happened to it last, or happens now."""


def search_bots(session: Session, text: str = "", narrowed: BotFilter = BotFilter.ALL, page: int = 1) -> Page[BotRow]:
    """Look for bots.

    Args:
        session: the transaction.
        text: part of the name of the bot, its organization, node, image, or of its digest; empty for all.
        narrowed: to which kind of bots.
        page: from 1, of `PER_PAGE` bots each; beyond the last one it is the last.
    """
    query = (
        sa.select(Bot)
        .join(Bot.org)
        .join(Bot.node)
        .where(Org.state != OrgState.DELETED, _matching(text.strip()), _narrowed(session, narrowed))
        .options(contains_eager(Bot.org), contains_eager(Bot.node), *_WITHOUT_SECRETS)
        .order_by(Org.name, Bot.name, Bot.id)
    )
    return load_page(session, query, page, BOTS_PER_PAGE, lambda found: build_rows(session, found))


def list_for_org(session: Session, org: Org) -> list[BotRow]:
    """The bots of one organization, by name."""
    query = sa.select(Bot).where(Bot.org_id == org.id).options(*_WITHOUT_SECRETS)
    return build_rows(session, session.scalars(query.order_by(Bot.name, Bot.id)).all())


def build_rows(session: Session, bots: Sequence[Bot]) -> list[BotRow]:
    """Complete bots to lines of a list."""
    running = map_releases_by_digest(session, {_repository(bot) for bot in bots})
    wanted = releases.map_targets(session)
    updates = _latest_updates(session, [bot.id for bot in bots])
    return [
        BotRow(
            bot=bot,
            runs=running.get((_repository(bot), bot.current_digest)),
            behind=_behind(bot, wanted.get(bot.image)),
            update=updates.get(bot.id),
        )
        for bot in bots
    ]


def map_releases_by_digest(session: Session, repositories: Iterable[str]) -> dict[tuple[str, str | None], Release]:
    """Map every digest of these repositories, as engines may know it, to its release."""
    known = session.scalars(sa.select(Release).where(Release.repository.in_(list(repositories))))
    return {(release.repository, digest): release for release in known for digest in release.digests}


def _repository(bot: Bot) -> str:
    return parse_reference(bot.image).name


def _behind(bot: Bot, target: Release | None) -> Release | None:
    if target is None or bot.release_channel is Channel.PINNED or releases.is_running(bot, target):
        return None
    return target


def _latest_updates(session: Session, bot_ids: Sequence[str]) -> dict[str, BotUpdate]:
    query = (
        sa.select(BotUpdate)
        .join(BotUpdate.rollout)
        .join(Rollout.release)
        .where(BotUpdate.bot_id.in_(bot_ids), BotUpdate.state != UpdateState.SKIPPED)
        .options(contains_eager(BotUpdate.rollout).contains_eager(Rollout.release), defer(BotUpdate.saved_container))
        .order_by(BotUpdate.created_at, BotUpdate.id)
    )
    return {update.bot_id: update for update in session.scalars(query)}


def _matching(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    columns = (Bot.name, Org.name, Org.slug, Node.name, Bot.image, Bot.current_digest)
    return sa.or_(*(column.icontains(text, autoescape=True) for column in columns))


def _narrowed(session: Session, narrowed: BotFilter) -> sa.ColumnElement[bool]:
    match narrowed:
        case BotFilter.ALL:
            return sa.true()
        case BotFilter.BEHIND:
            return _is_behind(releases.map_targets(session))
        case BotFilter.UPDATING:
            return Bot.id.in_(sa.select(BotUpdate.bot_id).where(BotUpdate.state == UpdateState.RUNNING))
        case BotFilter.UNWELL:
            return Bot.state.in_({BotState.UNHEALTHY, BotState.MISSING, BotState.UNKNOWN})
        case BotFilter.STOPPED:
            return Bot.state == BotState.STOPPED
        case BotFilter.ATTENTION:
            return Bot.needs_attention.is_not(None)


def _is_behind(targets: dict[str, Release]) -> sa.ColumnElement[bool]:
    differs = (
        (Bot.image == image) & (Bot.current_digest.is_(None) | Bot.current_digest.not_in(release.digests))
        for image, release in targets.items()
    )
    return sa.and_(Bot.release_channel != Channel.PINNED, sa.or_(sa.false(), *differs))


def load_by_ids(session: Session, bot_ids: Iterable[str]) -> Sequence[Bot]:
    """Exactly these bots; ids of none are ignored."""
    return session.scalars(sa.select(Bot).where(Bot.id.in_(list(bot_ids))).options(*_WITHOUT_SECRETS)).all()


def list_for_repository(session: Session, repository: str) -> Sequence[Bot]:
    """The bots that follow some tag of a repository, by organization and name."""
    query = (
        sa.select(Bot)
        .join(Bot.org)
        .where(Bot.image.startswith(f"{repository}:", autoescape=True))
        .options(contains_eager(Bot.org), *_WITHOUT_SECRETS)
    )
    return session.scalars(query.order_by(Org.name, Bot.name)).all()

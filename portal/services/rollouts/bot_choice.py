"""The bots from which an operator chooses those of a new rollout, a page at a time. Used by the form of a rollout."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager, load_only

from portal.models import Bot, BotPhase, Node, Org, Release
from portal.services.paging import Page, load_page
from portal.services.rollouts.narrowing import Narrowing

BOTS_PER_PAGE = 20


def search_bots(session: Session, release: Release, narrowing: Narrowing, text: str, page: int) -> Page[Bot]:
    """Return one page of the active bots that follow a tag of the release's repository, by organization and name.

    Args:
        session: the transaction.
        release: the release.
        narrowing: what narrows down the bots. Bots that it excepts are listed all the same.
        text: part of the name of the bot or of its organization; empty for all.
        page: number of the page, from 1.
    """
    query = (
        sa.select(Bot.id)
        .join(Bot.org)
        .where(
            Bot.phase == BotPhase.ACTIVE,
            Bot.image.startswith(f"{release.repository}:", autoescape=True),
            *narrowing.list_conditions(with_excepted_bots=True),
        )
        .order_by(Org.name, Bot.name, Bot.id)
    )
    if text:
        query = query.where(sa.or_(*(column.icontains(text, autoescape=True) for column in (Bot.name, Org.name))))
    return load_page(session, query, page, BOTS_PER_PAGE, lambda ids: _load_bots(session, ids))


def list_nodes(session: Session) -> Sequence[Node]:
    """List all nodes by name."""
    return session.scalars(sa.select(Node).order_by(Node.name)).all()


def list_unknown_orgs(session: Session, slugs: Sequence[str]) -> list[str]:
    """List those of the URL names that no organization has."""
    known = set(session.scalars(sa.select(Org.slug).where(Org.slug.in_(slugs))))
    return [slug for slug in slugs if slug not in known]


def _load_bots(session: Session, bot_ids: Sequence[str]) -> list[Bot]:
    query = (
        sa.select(Bot)
        .join(Bot.org)
        .join(Bot.node)
        .where(Bot.id.in_(bot_ids))
        .options(
            load_only(Bot.name, Bot.org_id, Bot.node_id, Bot.release_channel, Bot.current_digest),
            contains_eager(Bot.org).load_only(Org.name, Org.slug),
            contains_eager(Bot.node).load_only(Node.name),
        )
    )
    bots = {bot.id: bot for bot in session.scalars(query)}
    return [bots[bot_id] for bot_id in bot_ids if bot_id in bots]

"""Search over bots, organizations, people, rollouts and releases at once. Used by the operators' search page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager, joinedload

from portal.models import Bot, BotPhase, Org, OrgState, Release, Rollout, User
from portal.services.bots.bot_list import WITHOUT_SECRETS

MAX_RESULTS = 8
"""Results of each kind. More text narrows the search down."""

Row = TypeVar("Row")
Column = InstrumentedAttribute[Any]


@dataclass(frozen=True)
class SearchResults:
    """What a search found, at most `MAX_RESULTS` of each kind; nothing for an empty text."""

    bots: Sequence[Bot] = field(default_factory=list)
    orgs: Sequence[Org] = field(default_factory=list)
    people: Sequence[User] = field(default_factory=list)
    rollouts: Sequence[Rollout] = field(default_factory=list)
    releases: Sequence[Release] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not any((self.bots, self.orgs, self.people, self.rollouts, self.releases))


def search(session: Session, text: str) -> SearchResults:
    """Search names, subdomains, email addresses, versions, digests and ids for a text, ignoring case.

    Rows that begin with the text come first.
    """
    text = text.strip()
    if not text:
        return SearchResults()
    bots = sa.select(Bot).join(Bot.org).where(Bot.phase != BotPhase.REMOVED)
    orgs = sa.select(Org).where(Org.state != OrgState.DELETED)
    people = sa.select(User).where(User.deleted_at.is_(None))
    rollouts = sa.select(Rollout).join(Rollout.release)
    return SearchResults(
        bots=_find(
            session, bots.options(contains_eager(Bot.org), *WITHOUT_SECRETS), text, Bot, Bot.name, Bot.subdomain
        ),
        orgs=_find(session, orgs, text, Org, Org.name, Org.slug),
        people=_find(session, people, text, User, User.name, User.email),
        rollouts=_find(
            session,
            rollouts.options(contains_eager(Rollout.release), joinedload(Rollout.starter)),
            text,
            Rollout,
            Release.changelog_version,
            Release.digest,
        ),
        releases=_find(session, sa.select(Release), text, Release, Release.changelog_version, Release.digest),
    )


def _find(session: Session, query: sa.Select[Row], text: str, kind: Any, *columns: Column) -> Sequence[Row]:
    begins = sa.or_(*(column.istartswith(text, autoescape=True) for column in columns))
    contains = sa.or_(*(column.icontains(text, autoescape=True) for column in columns), kind.id == text)
    newest_first = kind.created_at.desc() if kind is Rollout else columns[0]
    return session.scalars(
        query.where(contains).order_by(sa.case((begins, 0), else_=1), newest_first, kind.id).limit(MAX_RESULTS)
    ).all()

"""Queries of the event log for audit pages: who did what, when and from where, with old and new values.

Used by the pages of organizations, bots, users and operators, and by alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Event, EventTag, Membership, Org, Rollout, User
from portal.services import events
from portal.services.audit import event_search, sentences
from portal.services.audit.event_search import EventFilter, TooManyMatches
from portal.services.audit.sentences import Change, Names

EVENTS_PER_PAGE = 50
REFUSALS_KEPT_PER_HOUR = 20
"""How many refused attempts of one user are recorded per hour. More of them would hide the other events."""

SUBJECTS = sentences.list_tags_by_subject()
"""All event tags by subject, which operators can filter by."""
ORG_SUBJECTS = {
    subject: SUBJECTS[subject] for subject in ("access", "bot", "config", "invite", "member", "org", "transfer")
}
"""The tags of events of an organization, which its owner and admins can filter by."""


@dataclass(frozen=True)
class EventRow:
    """One event as a page shows it.

    Attributes:
        event: the event.
        sentence: what happened.
        changes: old and new values.
        actor: the name of the actor.
        org: the organization of the event.
    """

    event: Event
    sentence: str
    changes: list[Change]
    actor: str
    org: Org | None

    @property
    def address(self) -> str | None:
        """The network address of the request. Customers do not see the addresses of their provider."""
        return None if self.actor == sentences.PROVIDER else self.event.address


@dataclass(frozen=True)
class EventPage:
    """A page of events, the newest first.

    Attributes:
        lines: the events.
        older: the id of the event before which the next page starts; None on the last page.
        too_many_matches: whether a text of the filter matches too many people or organizations.
    """

    lines: list[EventRow]
    older: int | None
    too_many_matches: bool


@dataclass(frozen=True)
class Refusal:
    """A refused attempt.

    Attributes:
        actor_id: the user who was refused.
        org_id: the organization; None for pages of operators.
        required: the right that the user lacks: an `Action`, or `operate` for pages of operators.
        endpoint: the endpoint of the request.
    """

    actor_id: str
    org_id: str | None
    required: str
    endpoint: str


def list_for_org(session: Session, org: Org, event_filter: EventFilter, before: int | None = None) -> EventPage:
    """List the events of an organization for its own people, who see operators as "your provider".

    Args:
        session: the transaction.
        org: the organization.
        event_filter: the filters.
        before: the id of the event before which the page starts; None for the newest events.
    """
    # Searching by person finds members only, so that a search letter by letter cannot reveal who the operators are.
    searchable = User.id.in_(_select_member_ids(org))
    found, older, too_many = _load_page(session, replace(event_filter, org=""), before, org, searchable)
    return EventPage(_build_rows_for_members(session, org, found), older, too_many)


def list_for_bot(session: Session, bot: Bot, limit: int = 30) -> list[EventRow]:
    """List the latest events of a bot for the people of its organization."""
    found = session.scalars(
        sa.select(Event).where(Event.bot_id == bot.id).order_by(Event.id.desc()).limit(limit)
    ).all()
    return _build_rows_for_members(session, bot.org, found)


def list_origin(session: Session, bot: Bot) -> list[EventRow]:
    """List how a bot was added, and when it got another container, for the people of its organization."""
    # A bot is added by one of its first events. It may have very many later ones.
    first = session.scalars(sa.select(Event).where(Event.bot_id == bot.id).order_by(Event.id).limit(3))
    attached = sa.select(Event).where(Event.bot_id == bot.id, Event.tag == EventTag.BOT_ATTACHED)
    latest = session.scalars(attached.order_by(Event.id.desc()).limit(1))
    found = [*(event for event in first if event.tag == EventTag.BOT_CREATED), *latest]
    return _build_rows_for_members(session, bot.org, found)


def list_all(session: Session, event_filter: EventFilter, before: int | None = None) -> EventPage:
    """List all events for operators. For the arguments see `list_for_org`."""
    found, older, too_many = _load_page(session, event_filter, before)
    names = _load_names(session, found)
    return EventPage([_build_row(event, names) for event in found], older, too_many)


def list_for_rollout(session: Session, rollout: Rollout, limit: int = 50) -> list[EventRow]:
    """List the latest events of a rollout itself, without those of its bots, for operators."""
    own = Event.tag.in_([tag for tag in EventTag if tag.startswith("rollout.")])
    query = sa.select(Event).where(Event.rollout_id == rollout.id, own).order_by(Event.id.desc())
    found = session.scalars(query.limit(limit)).all()
    names = _load_names(session, found)
    return [_build_row(event, names) for event in found]


def list_about_user(session: Session, user: User, limit: int = 20) -> list[EventRow]:
    """List the latest events that a user caused or that concern the user, for operators."""
    found = _load_events(session, event_search.find_about_user(session, user, limit))
    names = _load_names(session, found)
    return [_build_row(event, names) for event in found]


def describe_by_id(session: Session, event_ids: Sequence[int]) -> dict[int, EventRow]:
    """Return the events with these ids as rows for operators, by id."""
    found = session.scalars(sa.select(Event).where(Event.id.in_(event_ids))).all()
    names = _load_names(session, found)
    return {event.id: _build_row(event, names) for event in found}


def record_refusal(session: Session, refusal: Refusal, now: datetime) -> None:
    """Record a refused attempt, unless the user has reached `REFUSALS_KEPT_PER_HOUR`.

    Args:
        session: a separate transaction, because the transaction of the refused request is rolled back.
        refusal: the refused attempt.
        now: the current moment.
    """
    recorded = session.scalar(
        sa.select(sa.func.count()).where(
            Event.actor_id == refusal.actor_id,
            Event.tag == EventTag.ACCESS_REFUSED,
            Event.at > now - timedelta(hours=1),
        )
    )
    if (recorded or 0) >= REFUSALS_KEPT_PER_HOUR:
        return
    data = {"wanted": refusal.required, "endpoint": refusal.endpoint}
    if (recorded or 0) == REFUSALS_KEPT_PER_HOUR - 1:
        data["note"] = "further attempts within this hour are not listed"
    events.record(session, EventTag.ACCESS_REFUSED, actor=refusal.actor_id, org_id=refusal.org_id, data=data)


def _load_page(
    session: Session,
    event_filter: EventFilter,
    before: int | None,
    org: Org | None = None,
    searchable: sa.ColumnElement[bool] | None = None,
) -> tuple[Sequence[Event], int | None, bool]:
    """Return the events of a page, the id before which the next page starts, and whether a text matches too much."""
    # Pages start at an event id instead of an offset, because new events would shift the offsets.
    try:
        found = event_search.find_event_ids(
            session, event_filter, limit=EVENTS_PER_PAGE + 1, before=before, org=org, searchable=searchable
        )
    except TooManyMatches:
        return [], None, True
    ids, has_more = found[:EVENTS_PER_PAGE], len(found) > EVENTS_PER_PAGE
    return _load_events(session, ids), ids[-1] if has_more else None, False


def _load_events(session: Session, ids: Sequence[int]) -> Sequence[Event]:
    return session.scalars(sa.select(Event).where(Event.id.in_(ids)).order_by(Event.id.desc())).all()


def _load_names(session: Session, found: Sequence[Event]) -> Names:
    """Load the names of the rows that the events refer to. Deleted rows have none."""
    user_ids = {user_id for event in found for user_id in sentences.list_user_ids(event)}
    bot_ids = {event.bot_id for event in found}
    org_ids = {event.org_id for event in found}
    users = session.execute(sa.select(User.id, User.name).where(User.id.in_(user_ids)))
    bots = session.execute(sa.select(Bot.id, Bot.name).where(Bot.id.in_(bot_ids)))
    orgs = session.scalars(sa.select(Org).where(Org.id.in_(org_ids)))
    return Names(dict(users.all()), dict(bots.all()), {org.id: org for org in orgs})


def _build_rows_for_members(session: Session, org: Org, found: Sequence[Event]) -> list[EventRow]:
    names = _load_names(session, found)
    outside = _list_outside_operators(session, org, found)
    names.users.update(dict.fromkeys(outside, sentences.PROVIDER))
    return [_build_row(event, names, for_members=True) for event in found]


def _list_outside_operators(session: Session, org: Org, found: Sequence[Event]) -> list[str]:
    """List the actors who are or were operators and never belonged to the organization.

    The log itself shows who was an operator once, even for deleted accounts.
    """
    granted = Event.tag.in_([EventTag.USER_OPERATOR_CREATED, EventTag.USER_OPERATOR_GRANTED])
    former_operators = sa.select(Event.user_id).where(granted)
    query = sa.select(User.id).where(
        User.id.in_({event.actor_id for event in found}),
        User.is_platform_admin | User.id.in_(former_operators),
        User.id.not_in(_select_member_ids(org)),
    )
    return list(session.scalars(query))


def _select_member_ids(org: Org) -> sa.Select[str]:
    """Select the user ids of the current and former members of an organization."""
    return sa.select(Membership.user_id).where(Membership.org_id == org.id)


def _build_row(event: Event, names: Names, *, for_members: bool = False) -> EventRow:
    return EventRow(
        event=event,
        sentence=sentences.describe(event, names, for_members=for_members),
        changes=sentences.list_changes(event, names),
        actor=sentences.describe_actor(event, names, for_members=for_members),
        org=names.orgs.get(event.org_id or ""),
    )

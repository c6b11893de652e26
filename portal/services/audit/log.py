"""Queries of the event log for audit pages: who did what, when and from where, with old and new values.

Used by the pages of organizations, bots, users and operators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Event, EventPersonalData, EventTag, Membership, Org, Rollout, User
from portal.rules import email_addresses
from portal.services import events
from portal.services.audit import sentences
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


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Filters of the event log. An empty field does not filter.

    Attributes:
        about: a subject such as `member`, or a whole tag such as `member.removed`.
        person: a part of the name or email address of the actor, or of the user whom the event concerns.
        org: a part of an organization's name or slug; for operators.
        since: the first day, in UTC.
        until: the last day, in UTC.
    """

    about: str = ""
    person: str = ""
    org: str = ""
    since: date | None = None
    until: date | None = None

    @property
    def is_active(self) -> bool:
        """Whether any field filters."""
        return self != EventFilter()


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
    """

    lines: list[EventRow]
    older: int | None


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
    found, older = _load_page(session, [Event.org_id == org.id, *_build_conditions(event_filter, searchable)], before)
    return EventPage(_build_rows_for_members(session, org, found), older)


def list_for_bot(session: Session, bot: Bot, limit: int = 30) -> list[EventRow]:
    """List the latest events of a bot for the people of its organization."""
    found = session.scalars(
        sa.select(Event).where(Event.bot_id == bot.id).order_by(Event.id.desc()).limit(limit)
    ).all()
    return _build_rows_for_members(session, bot.org, found)


def list_all(session: Session, event_filter: EventFilter, before: int | None = None) -> EventPage:
    """List all events for operators. For the arguments see `list_for_org`."""
    conditions = _build_conditions(event_filter, sa.true())
    if event_filter.org.strip():
        conditions.append(Event.org_id.in_(_select_org_ids(event_filter.org.strip())))
    found, older = _load_page(session, conditions, before)
    names = _load_names(session, found)
    return EventPage([_build_row(event, names) for event in found], older)


def list_for_rollout(session: Session, rollout: Rollout, limit: int = 50) -> list[EventRow]:
    """List the latest events of a rollout itself, without those of its bots, for operators."""
    own = Event.tag.in_([tag for tag in EventTag if tag.startswith("rollout.")])
    query = sa.select(Event).where(Event.rollout_id == rollout.id, own).order_by(Event.id.desc())
    found = session.scalars(query.limit(limit)).all()
    names = _load_names(session, found)
    return [_build_row(event, names) for event in found]


def list_about_user(session: Session, user: User, limit: int = 20) -> list[EventRow]:
    """List the latest events that a user caused or that concern the user, for operators."""
    condition = (Event.actor_id == user.id) | (Event.user_id == user.id)
    found = session.scalars(sa.select(Event).where(condition).order_by(Event.id.desc()).limit(limit)).all()
    names = _load_names(session, found)
    return [_build_row(event, names) for event in found]


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
    session: Session, conditions: Iterable[sa.ColumnElement[bool]], before: int | None
) -> tuple[Sequence[Event], int | None]:
    # Pages start at an event id instead of an offset, because new events would shift the offsets.
    query = sa.select(Event).where(*conditions).order_by(Event.id.desc()).limit(EVENTS_PER_PAGE + 1)
    if before is not None:
        query = query.where(Event.id < before)
    found = session.scalars(query).all()
    has_more = len(found) > EVENTS_PER_PAGE
    found = found[:EVENTS_PER_PAGE]
    return found, found[-1].id if has_more else None


def _build_conditions(event_filter: EventFilter, searchable: sa.ColumnElement[bool]) -> list[sa.ColumnElement[bool]]:
    """Build the conditions of a filter. `searchable` limits the users that the person filter finds."""
    conditions: list[sa.ColumnElement[bool]] = []
    if "." in event_filter.about:
        conditions.append(Event.tag == event_filter.about)
    elif event_filter.about:
        conditions.append(Event.tag.startswith(f"{event_filter.about}.", autoescape=True))
    if event_filter.person.strip():
        conditions.append(_concerns_person(event_filter.person.strip(), searchable))
    if event_filter.since:
        conditions.append(Event.at >= datetime.combine(event_filter.since, time(), UTC))
    if event_filter.until:
        conditions.append(Event.at <= datetime.combine(event_filter.until, time.max, UTC))
    return conditions


def _concerns_person(text: str, searchable: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    columns = (User.name, User.email)
    matches = sa.or_(*(column.icontains(text, autoescape=True) for column in columns))
    user_ids = sa.select(User.id).where(searchable, matches)
    return sa.or_(
        Event.actor_id.in_(user_ids),
        Event.user_id.in_(user_ids),
        Event.id.in_(
            sa.select(EventPersonalData.event_id).where(
                EventPersonalData.email_normalized.contains(email_addresses.normalize(text), autoescape=True)
            )
        ),
    )


def _select_org_ids(text: str) -> sa.Select[str]:
    columns = (Org.name, Org.slug)
    return sa.select(Org.id).where(sa.or_(*(column.icontains(text, autoescape=True) for column in columns)))


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

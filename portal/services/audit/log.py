"""Reading the log of events: what happened, who did it, what it was before and is after, and from where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Event, EventTag, Membership, Org, User
from portal.services import events
from portal.services.audit import sentences
from portal.services.audit.sentences import Change, Names

EVENTS_PER_PAGE = 50
REFUSALS_KEPT_PER_HOUR = 20
"""So many refused attempts of one person are kept an hour; more would only drown the rest of the log."""

SUBJECTS = sentences.list_tags_by_subject()
"""What operators can ask for: all tags by subject."""
ORG_SUBJECTS = {
    subject: SUBJECTS[subject] for subject in ("access", "bot", "config", "invite", "member", "org", "transfer")
}
"""What concerns single organizations."""


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """What to show of the log; what is left empty does not narrow."""

    about: str = ""
    """A subject such as `member`, or a whole tag such as `member.removed`."""
    person: str = ""
    """Part of the name or address of who did it, or whom it concerned."""
    org: str = ""
    """Part of an organization's name or address; for operators."""
    since: date | None = None
    """The first day, in UTC."""
    until: date | None = None
    """The last day, in UTC."""

    @property
    def narrows(self) -> bool:
        """Whether anything is left out."""
        return self != EventFilter()


@dataclass(frozen=True)
class EventRow:
    """One event, in words."""

    event: Event
    words: str
    changes: list[Change]
    actor: str
    org: Org | None

    @property
    def address(self) -> str | None:
        """Where the request came from; a provider's network is not its customers' business."""
        return None if self.actor == sentences.PROVIDER else self.event.address


@dataclass(frozen=True)
class EventPage:
    """A page of the log, the newest first."""

    lines: list[EventRow]
    older: int | None
    """The event before which the next page goes on; None on the last one."""


@dataclass(frozen=True)
class Refusal:
    """An attempt that was refused."""

    actor_id: str
    org_id: str | None
    """None for the operators' part of the portal."""
    wanted: str
    """What it would have taken, such as `manage_team`."""
    endpoint: str
    """The page or form that was asked for."""


def list_for_org(session: Session, org: Org, wanted: EventFilter, before: int | None = None) -> EventPage:
    """The log of one organization, for its owner and admins: operators show as its provider.

    Args:
        session: the transaction.
        org: the organization.
        wanted: what to show.
        before: id of the event before which the page begins; None for the newest ones.
    """
    # Who the provider is must not come out letter by letter, so only people of the organization are looked for.
    findable = User.id.in_(_insiders(org))
    found, older = _page(session, [Event.org_id == org.id, *_conditions(wanted, findable)], before)
    return EventPage(_for_insiders(session, org, found), older)


def list_for_bot(session: Session, bot: Bot, limit: int = 30) -> list[EventRow]:
    """The latest of what happened to a bot, for the people it belongs to."""
    found = session.scalars(
        sa.select(Event).where(Event.bot_id == bot.id).order_by(Event.id.desc()).limit(limit)
    ).all()
    return _for_insiders(session, bot.org, found)


def list_all(session: Session, wanted: EventFilter, before: int | None = None) -> EventPage:
    """The log of everything, for operators; arguments as `of_org`."""
    conditions = _conditions(wanted, sa.true())
    if wanted.org.strip():
        conditions.append(Event.org_id.in_(_orgs_like(wanted.org.strip())))
    found, older = _page(session, conditions, before)
    names = _names(session, found)
    return EventPage([_line(event, names) for event in found], older)


def list_about_user(session: Session, user: User, limit: int = 20) -> list[EventRow]:
    """The latest of what somebody did, and of what was done to them."""
    concerned = (Event.actor_id == user.id) | (Event.data["user_id"].as_string() == user.id)
    found = session.scalars(sa.select(Event).where(concerned).order_by(Event.id.desc()).limit(limit)).all()
    names = _names(session, found)
    return [_line(event, names) for event in found]


def record_refusal(session: Session, refusal: Refusal, now: datetime) -> None:
    """Keep a refused attempt, unless its author was refused so often lately that it would flood the log.

    Args:
        session: a transaction of its own.
        refusal: who was refused what.
        now: the present.
    """
    lately = session.scalar(
        sa.select(sa.func.count()).where(
            Event.actor_id == refusal.actor_id,
            Event.tag == EventTag.ACCESS_REFUSED,
            Event.at > now - timedelta(hours=1),
        )
    )
    if (lately or 0) >= REFUSALS_KEPT_PER_HOUR:
        return
    data = {"wanted": refusal.wanted, "endpoint": refusal.endpoint}
    if (lately or 0) == REFUSALS_KEPT_PER_HOUR - 1:
        data["note"] = "further ones of the same hour are not listed"
    events.record(session, EventTag.ACCESS_REFUSED, actor=refusal.actor_id, org_id=refusal.org_id, data=data)


def _page(
    session: Session, conditions: Iterable[sa.ColumnElement[bool]], before: int | None
) -> tuple[Sequence[Event], int | None]:
    # By id, not by number of page: the log grows while people read it.
    query = sa.select(Event).where(*conditions).order_by(Event.id.desc()).limit(EVENTS_PER_PAGE + 1)
    if before is not None:
        query = query.where(Event.id < before)
    found = session.scalars(query).all()
    more = len(found) > EVENTS_PER_PAGE
    found = found[:EVENTS_PER_PAGE]
    return found, found[-1].id if more else None


def _conditions(wanted: EventFilter, findable: sa.ColumnElement[bool]) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if "." in wanted.about:
        conditions.append(Event.tag == wanted.about)
    elif wanted.about:
        conditions.append(Event.tag.startswith(f"{wanted.about}.", autoescape=True))
    if wanted.person.strip():
        conditions.append(_concerns(wanted.person.strip(), findable))
    if wanted.since:
        conditions.append(Event.at >= datetime.combine(wanted.since, time(), UTC))
    if wanted.until:
        conditions.append(Event.at <= datetime.combine(wanted.until, time.max, UTC))
    return conditions


def _concerns(text: str, findable: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    columns = (User.name, User.email)
    called = sa.or_(*(column.icontains(text, autoescape=True) for column in columns))
    people = sa.select(User.id).where(findable, called)
    return sa.or_(
        Event.actor_id.in_(people),
        Event.data["user_id"].as_string().in_(people),
        Event.data["email"].as_string().icontains(text, autoescape=True),
    )


def _orgs_like(text: str) -> sa.Select[str]:
    columns = (Org.name, Org.slug)
    return sa.select(Org.id).where(sa.or_(*(column.icontains(text, autoescape=True) for column in columns)))


def _names(session: Session, found: Sequence[Event]) -> Names:
    """What the rows are called that these events point at; rows that are gone have no name any more."""
    users = {identity for event in found for identity in sentences.list_user_ids(event)}
    bots = {event.bot_id for event in found}
    orgs = {event.org_id for event in found}
    named_users = session.execute(sa.select(User.id, User.name).where(User.id.in_(users)))
    named_bots = session.execute(sa.select(Bot.id, Bot.name).where(Bot.id.in_(bots)))
    rows = session.scalars(sa.select(Org).where(Org.id.in_(orgs)))
    return Names(dict(named_users.all()), dict(named_bots.all()), {org.id: org for org in rows})


def _for_insiders(session: Session, org: Org, found: Sequence[Event]) -> list[EventRow]:
    names = _names(session, found)
    outside = _operators_from_outside(session, org, found)
    names.users.update(dict.fromkeys(outside, sentences.PROVIDER))
    return [_line(event, names, from_inside=True) for event in found]


def _operators_from_outside(session: Session, org: Org, found: Sequence[Event]) -> list[str]:
    """Who acted as the provider, be it long ago: the log knows who was an operator once, and who is deleted."""
    made = Event.tag.in_([EventTag.USER_OPERATOR_CREATED, EventTag.USER_OPERATOR_GRANTED])
    once = sa.select(Event.data["user_id"].as_string()).where(made)
    query = sa.select(User.id).where(
        User.id.in_({event.actor_id for event in found}),
        User.is_platform_admin | User.id.in_(once),
        User.id.not_in(_insiders(org)),
    )
    return list(session.scalars(query))


def _insiders(org: Org) -> sa.Select[str]:
    """Whoever belongs to an organization, or did once."""
    return sa.select(Membership.user_id).where(Membership.org_id == org.id)


def _line(event: Event, names: Names, *, from_inside: bool = False) -> EventRow:
    return EventRow(
        event=event,
        words=sentences.describe(event, names),
        changes=sentences.list_changes(event, names),
        actor=sentences.describe_actor(event, names, from_inside=from_inside),
        org=names.orgs.get(event.org_id or ""),
    )

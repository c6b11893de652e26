"""Search of the event log by index, so that its cost does not grow with the log. Used by `audit.log`.

Each search is a union of branches. A branch follows one index that ends with the id of the event, so that the
database reads the newest events of the branch and stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Event, EventPersonalData, Org, User
from portal.rules import email_addresses
from portal.services.audit import sentences

MATCHES = 10
"""How many people, addresses or organizations a text may match. More of them would need one branch each."""

_TAGS_BY_SUBJECT = sentences.list_tags_by_subject()
_DISORDER = timedelta(days=1)
"""Ids follow the moments of events, except for transactions that last and clocks that are set back, both shorter."""


class TooManyMatches(Exception):
    """A text matches more than `MATCHES` rows. The user has to enter more of it."""


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


def find_event_ids(
    session: Session,
    event_filter: EventFilter,
    *,
    limit: int,
    before: int | None = None,
    org: Org | None = None,
    searchable: sa.ColumnElement[bool] | None = None,
) -> Sequence[int]:
    """Find the ids of the newest events that match, newest first.

    Args:
        session: the transaction.
        event_filter: the filters.
        limit: largest number of ids.
        before: only events with smaller ids.
        org: only events of this organization.
        searchable: which users the person filter finds; by default all.

    Raises:
        TooManyMatches: a text of the filter matches too many people or organizations.
    """
    org_ids = _find_org_ids(session, event_filter.org.strip(), org)
    tags = _list_tags(event_filter.about)
    conditions = [*_build_period(session, event_filter), *([Event.id < before] if before is not None else [])]
    if org_ids is not None:
        conditions.append(Event.org_id.in_(org_ids))
    person = event_filter.person.strip()
    if person:
        drivers = list(_list_person_drivers(session, person, searchable))
        conditions += [Event.tag.in_(tags)] if tags is not None else []
    elif org_ids is not None:
        drivers = [Event.org_id == org_id for org_id in org_ids]
        conditions += [Event.tag.in_(tags)] if tags is not None else []
    else:
        drivers = [sa.true()] if tags is None else [Event.tag == tag for tag in tags]
    return _union_newest(session, drivers, conditions, limit)


def find_about_user(session: Session, user: User, limit: int) -> Sequence[int]:
    """Find the ids of the newest events that a user caused or that concern the user, newest first."""
    return _union_newest(session, [Event.actor_id == user.id, Event.user_id == user.id], [], limit)


def _union_newest(
    session: Session,
    drivers: Sequence[sa.ColumnElement[bool]],
    conditions: Sequence[sa.ColumnElement[bool]],
    limit: int,
) -> Sequence[int]:
    """Find the newest events for which all conditions and at least one driver hold. Each driver follows an index."""
    if not drivers:
        return []
    branches = [
        sa.select(
            sa.select(Event.id).where(driver, *conditions).order_by(Event.id.desc()).limit(limit).subquery().c.id
        )
        for driver in drivers
    ]
    found = sa.union(*branches).subquery()
    return session.scalars(sa.select(found.c.id).order_by(found.c.id.desc()).limit(limit)).all()


def _list_tags(about: str) -> Sequence[str] | None:
    """List the tags of a subject, or the tag itself; None for all."""
    if not about:
        return None
    return _TAGS_BY_SUBJECT.get(about, [about])


def _list_person_drivers(
    session: Session, text: str, searchable: sa.ColumnElement[bool] | None
) -> Iterator[sa.ColumnElement[bool]]:
    matches = _matches(text, User.name, User.email)
    conditions = [matches] if searchable is None else [matches, searchable]
    for user_id in _require_few(session, sa.select(User.id).where(*conditions)):
        yield Event.actor_id == user_id
        yield Event.user_id == user_id
    # People without an account are known by the address in the event only.
    address = EventPersonalData.email_normalized
    matches = address.contains(email_addresses.normalize(text), autoescape=True)
    for email in _require_few(session, sa.select(address).distinct().where(matches)):
        yield Event.id.in_(sa.select(EventPersonalData.event_id).where(address == email))


def _find_org_ids(session: Session, text: str, org: Org | None) -> Sequence[str] | None:
    if org is not None:
        return [org.id]
    if not text:
        return None
    exact = session.scalars(sa.select(Org.id).where(Org.slug == text)).all()
    return exact or _require_few(session, sa.select(Org.id).where(_matches(text, Org.name, Org.slug)))


def _matches(text: str, *columns: Any) -> sa.ColumnElement[bool]:
    return sa.or_(*(column.icontains(text, autoescape=True) for column in columns))


def _require_few(session: Session, query: sa.Select[Any]) -> Sequence[str]:
    found = session.scalars(query.limit(MATCHES + 1)).all()
    if len(found) > MATCHES:
        raise TooManyMatches
    return found


def _build_period(session: Session, event_filter: EventFilter) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions of the days, with bounds for the id, because the branches are ordered by id."""
    if event_filter.since:
        first = datetime.combine(event_filter.since, time(), UTC)
        yield Event.at >= first
        yield Event.id >= _find_first_id(session, Event.at >= _shift(first, -_DISORDER))
    if event_filter.until:
        last = datetime.combine(event_filter.until, time.max, UTC)
        yield Event.at <= last
        yield Event.id <= _find_first_id(session, Event.at > _shift(last, _DISORDER))


def _shift(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment + span
    except OverflowError:
        return moment


def _find_first_id(session: Session, condition: sa.ColumnElement[bool]) -> int:
    """Return the id of the first event for which a condition on its moment holds; a number above all if none does."""
    found = session.scalar(sa.select(Event.id).where(condition).order_by(Event.at, Event.id).limit(1))
    return 2**62 if found is None else found

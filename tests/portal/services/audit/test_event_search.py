"""Tests of the search of the event log: it finds the same events as a filter that reads all of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Event, EventPersonalData
from portal.services.audit import event_search
from portal.services.audit.event_search import EventFilter, TooManyMatches
from tests import factories

START = datetime(2026, 11, 1, 23, 30, tzinfo=UTC)
TAGS = ("bot.updated", "bot.opened", "member.joined", "member.removed", "user.signed_in")


@pytest.fixture
def people(database: Database) -> dict[str, str]:
    """Three users, two organizations and 60 events, one an hour; ids by name."""
    with database.transaction() as session:
        alice, bob, root = (factories.user(session, name) for name in ("alice", "bob", "root"))
        acme, zen = factories.org(session, alice), factories.org(session, bob, "zen")
        ids = {"alice": alice.id, "bob": bob.id, "root": root.id, "acme": acme.id, "zen": zen.id}
        for number in range(60):
            _add_event(session, number, [alice.id, bob.id, None], [acme.id, zen.id, None])
    return ids


def _add_event(session: Session, number: int, users: list[str | None], orgs: list[str | None]) -> None:
    event = Event(
        at=START + timedelta(hours=number),
        tag=TAGS[number % len(TAGS)],
        actor_id=users[number % 3],
        org_id=orgs[number // 3 % 3],
        data={"user_id": users[number // 9 % 3]},
    )
    if number % 13 == 0:
        event.personal = EventPersonalData(email_normalized="guest@example.org", data={"email": "guest@example.org"})
    session.add(event)
    session.flush()


def test_search_finds_what_a_filter_of_all_events_finds(database: Database, people: dict[str, str]) -> None:
    days = (None, date(2026, 11, 2), date(2026, 11, 3))
    wrong = []
    with database.reading() as session:
        events = session.query(Event).order_by(Event.id.desc()).all()
        for about, person, org, since, until in product(
            ("", "bot", "bot.opened", "fork"), ("", "alice", "guest@", "unknown"), ("", "zen"), days, days
        ):
            wanted = EventFilter(about=about, person=person, org=org, since=since, until=until)
            expected = [event.id for event in events if _matches(event, wanted, people)]
            found = list(event_search.find_event_ids(session, wanted, limit=10))
            rest = event_search.find_event_ids(session, wanted, limit=100, before=found[-1] if found else None)
            if [*found, *rest] != expected:
                wrong.append(wanted)
    assert wrong == []


def _matches(event: Event, wanted: EventFilter, ids: dict[str, str]) -> bool:
    day = event.at.date()
    concerned = {event.actor_id, event.user_id}
    guest = event.personal is not None and event.personal.email_normalized == "guest@example.org"
    return (
        (not wanted.about or event.tag == wanted.about or event.tag.startswith(f"{wanted.about}."))
        and (
            not wanted.person or ids.get(wanted.person) in concerned - {None} or (wanted.person == "guest@" and guest)
        )
        and (not wanted.org or event.org_id == ids[wanted.org])
        and (wanted.since is None or day >= wanted.since)
        and (wanted.until is None or day <= wanted.until)
    )


def test_text_that_matches_too_many_rows_is_refused(database: Database) -> None:
    with database.transaction() as session:
        for number in range(event_search.MATCHES + 1):
            factories.user(session, f"smith{number}")
        assert event_search.find_event_ids(session, EventFilter(person="smith3"), limit=5) == []
        with pytest.raises(TooManyMatches):
            event_search.find_event_ids(session, EventFilter(person="smith"), limit=5)


def test_whole_slug_finds_its_organization_among_many(database: Database) -> None:
    with database.transaction() as session:
        owner = factories.user(session)
        orgs = [factories.org(session, owner, f"acme{number}") for number in range(event_search.MATCHES)]
        exact = factories.org(session, owner, "acme")
        session.add_all(Event(tag="org.created", org_id=org.id) for org in (*orgs, exact))
        session.flush()
        (found,) = event_search.find_event_ids(session, EventFilter(org="acme"), limit=20)
        assert session.get_one(Event, found).org_id == exact.id

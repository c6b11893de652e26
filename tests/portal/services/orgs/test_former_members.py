"""Removed members whom a bot may still know, told apart from those whom no bot knows any longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotSync,
    Event,
    EventTag,
    Membership,
    MembershipState,
    Provisioning,
    SyncRole,
    SyncState,
    utcnow,
)
from portal.services.orgs import former_members
from tests import factories
from tests.support import sync_rows


class Acme:
    """An organization with the bots Desk and Shop, and the removed member Rita."""

    def __init__(self, session: Session) -> None:
        """Add the rows."""
        self.session = session
        self.now = utcnow()
        self.org = factories.org(session, factories.user(session, "alice"))
        node = factories.node(session)
        self.desk, self.shop = (factories.bot(session, self.org, node, name=name) for name in ("Desk", "Shop"))
        sync_rows.connect(session, self.desk)
        sync_rows.connect(session, self.shop)
        self.rita = self.remove("rita")

    def remove(self, name: str) -> Membership:
        """Add a removed member."""
        membership = factories.membership(self.session, self.org, factories.user(self.session, name))
        membership.state = MembershipState.REMOVED
        return membership

    def confirm(self, bot: Bot, membership: Membership, moment: datetime | None = None) -> None:
        """Add the row of a removal that the bot has confirmed."""
        changed_at = moment or self.now
        sync_rows.observed(self.session, bot, membership.user_id, SyncRole.NONE, changed_at=changed_at)

    def request(self, bot: Bot, membership: Membership) -> None:
        """Add the row of a removal that the bot has not confirmed."""
        values = {"observed_role": SyncRole.MEMBER, "observed_version": 1, "observed_epoch": 1}
        sync_rows.pending(self.session, bot, membership.user_id, SyncRole.NONE, desired_version=2, **values)

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of those whose access is ending, and of those whose access has ended."""
        self.session.flush()
        found = former_members.list_former_members(self.session, self.org, self.now)
        return [line.user.name for line in found.ending], [line.user.name for line in found.ended]


@pytest.fixture
def acme(database: Database) -> Iterator[Acme]:
    """An organization with two bots and a removed member, in one transaction."""
    with database.transaction() as session:
        yield Acme(session)


def test_removed_member_is_ending_until_every_bot_has_confirmed(acme: Acme) -> None:
    acme.confirm(acme.desk, acme.rita)
    acme.request(acme.shop, acme.rita)
    assert acme.names() == (["Rita"], [])
    (line,) = former_members.list_former_members(acme.session, acme.org, acme.now).ending
    assert [(sync.bot.name, sync.progress) for sync in line.syncs] == [("Desk", "ended"), ("Shop", "removing")]

    row = line.syncs[1].row
    row.state, row.observed_role, row.observed_version = SyncState.SYNCED, SyncRole.NONE, 2
    assert acme.names() == ([], ["Rita"])


def test_restored_data_may_contain_the_removed_member_again(acme: Acme) -> None:
    acme.confirm(acme.desk, acme.rita, acme.now - timedelta(days=300))
    assert acme.names() == ([], [])
    acme.desk.epoch += 1
    assert acme.names() == (["Rita"], [])


def test_confirmed_removal_is_shown_for_a_week(acme: Acme) -> None:
    acme.confirm(acme.desk, acme.rita, acme.now - former_members.ENDED_WITHIN + timedelta(minutes=1))
    acme.confirm(acme.desk, acme.remove("otto"), acme.now - former_members.ENDED_WITHIN - timedelta(minutes=1))
    assert acme.names() == ([], ["Rita"])


@pytest.mark.parametrize("tag", [EventTag.MEMBER_REMOVED, EventTag.MEMBER_LEFT])
def test_bot_that_listed_the_person_again_does_not_change_when_the_person_was_removed(
    acme: Acme, tag: EventTag
) -> None:
    removed_at = acme.now - timedelta(days=60)
    other = factories.org(acme.session, factories.user(acme.session, "mallory"), "other")
    for org, at in ((acme.org, removed_at - timedelta(days=30)), (acme.org, removed_at), (other, acme.now)):
        factories.add(acme.session, Event(tag=tag, at=at, org_id=org.id, data={"user_id": acme.rita.user_id}))
    acme.request(acme.desk, acme.rita)  # after drift, just now
    acme.session.flush()
    (line,) = former_members.list_former_members(acme.session, acme.org, acme.now).ending
    assert line.removed_at == removed_at


def test_bots_without_connection_and_removed_bots_do_not_count(acme: Acme) -> None:
    acme.request(acme.desk, acme.rita)
    acme.request(acme.shop, acme.rita)
    acme.session.get_one(BotSync, acme.desk.id).provisioning = Provisioning.OFF
    acme.shop.phase = BotPhase.REMOVED
    assert acme.names() == ([], [])


def test_people_who_are_members_are_not_listed(acme: Acme) -> None:
    acme.request(acme.desk, acme.rita)
    acme.rita.state = MembershipState.ACTIVE  # as with a disabled account, whose membership stays
    assert acme.names() == ([], [])


def test_people_of_other_organizations_are_not_listed(acme: Acme) -> None:
    acme.request(acme.desk, acme.rita)
    other = factories.org(acme.session, factories.user(acme.session, "mallory"), "other")
    assert former_members.list_former_members(acme.session, other, acme.now).ending == []


def test_long_list_is_cut_off_and_keeps_those_who_are_ending(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_members, "_MAX_ROWS", 2)
    for name in ("otto", "paul", "quin"):
        acme.confirm(acme.desk, acme.remove(name))
    acme.request(acme.desk, acme.rita)
    found = former_members.list_former_members(acme.session, acme.org, acme.now)
    assert [line.user.name for line in found.ending] == ["Rita"]
    assert (len(found.ended), found.has_more) == (1, True)

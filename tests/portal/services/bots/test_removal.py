"""Removal of single bots: the request, its grace period, restoring, and which queries still see the bot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotSync,
    DesiredState,
    MemberSync,
    Org,
    OrgState,
    SkipReason,
    User,
    utcnow,
)
from portal.services import lookup
from portal.services.bots import (
    bot_list,
    creation_progress,
    desired_state,
    fleet_search,
    observations,
    overview,
    purging,
    removal,
)
from portal.services.bots.fleet_search import BotCondition, FleetFilter
from portal.services.errors import ConflictError, NotFoundError
from portal.services.orgs import member_sync, org_deletion, org_list
from portal.services.releases import release_list, releases
from portal.services.rollouts import eligibility, notifications
from tests import factories


@pytest.fixture
def bot_id(database: Database) -> str:
    """The running bot `desk` of Acme, which is outdated."""
    with database.transaction() as session:
        org = factories.org(session, factories.user(session, "alice"))
        old, new = factories.release(session, "1.0.0"), factories.release(session, "2.0.0")
        factories.polled_image(session, new)
        values = {"name": "desk", "subdomain": "desk", "container_id": "c" * 64, "current_digest": old.digest}
        return factories.bot(session, org, factories.node(session), **values).id


def remove(database: Database, bot_id: str, *, keep_data: bool = False, immediately: bool = False) -> None:
    """Request the removal as an operator."""
    with database.transaction() as session:
        bot = session.get_one(Bot, bot_id)
        removal.request_removal(session, bot, keep_data=keep_data, immediately=immediately, now=utcnow(), actor=None)


def restore(database: Database, bot_id: str, later: timedelta = timedelta()) -> None:
    """Restore a bot as an operator."""
    with database.transaction() as session:
        removal.restore_bot(session, session.get_one(Bot, bot_id), now=utcnow() + later, actor=None)


def change(database: Database, bot_id: str, **values: Any) -> None:
    """Change columns of the bot."""
    with database.transaction() as session:
        for name, value in values.items():
            setattr(session.get_one(Bot, bot_id), name, value)


def list_purges(database: Database, later: timedelta = timedelta()) -> list[str]:
    """Return the bots that are purged at a moment."""
    with database.reading() as session:
        return [bot_id for bot_id, _ in purging.list_due(session, utcnow() + later)]


def test_removed_bot_stops_and_is_purged_after_seven_days(database: Database, bot_id: str) -> None:
    remove(database, bot_id)
    with database.reading() as session:
        bot = session.get_one(Bot, bot_id)
        assert (bot.phase, bot.desired_state, bot.keep_data) == (BotPhase.REMOVING, DesiredState.STOPPED, False)
        assert [found for found, _ in desired_state.list_pending(session)] == [bot_id]
    assert list_purges(database, timedelta(days=8)) == [], "it still runs"
    change(database, bot_id, applied_state=DesiredState.STOPPED)
    assert list_purges(database, timedelta(days=6, hours=23)) == []
    assert list_purges(database, timedelta(days=7, hours=1)) == [bot_id]


def test_immediate_removal_has_no_grace_period(database: Database, bot_id: str) -> None:
    remove(database, bot_id, immediately=True)
    change(database, bot_id, applied_state=DesiredState.STOPPED)
    assert list_purges(database) == [bot_id]
    with pytest.raises(ConflictError, match="too late"):
        restore(database, bot_id)


@pytest.mark.parametrize("before", list(DesiredState))
def test_restored_bot_returns_to_its_state(database: Database, bot_id: str, before: DesiredState) -> None:
    change(database, bot_id, desired_state=before)
    remove(database, bot_id)
    restore(database, bot_id)
    with database.reading() as session:
        bot = session.get_one(Bot, bot_id)
        assert (bot.phase, bot.desired_state, bot.remove_after) == (BotPhase.ACTIVE, before, None)
    with pytest.raises(ConflictError, match="not being removed"):
        restore(database, bot_id)


def test_restore_after_the_grace_period_is_refused(database: Database, bot_id: str) -> None:
    remove(database, bot_id)
    with pytest.raises(ConflictError, match="too late"):
        restore(database, bot_id, timedelta(days=7))


def test_creation_is_removed_without_a_stop_and_continues_when_restored(database: Database, bot_id: str) -> None:
    change(database, bot_id, phase=BotPhase.CREATING, container_id=None, creation_due_at=utcnow())
    remove(database, bot_id)
    assert list_purges(database, timedelta(days=8)) == [bot_id]
    restore(database, bot_id)
    with database.reading() as session:
        assert session.get_one(Bot, bot_id).phase is BotPhase.CREATING
        assert creation_progress.list_due(session, utcnow(), repeated=False) == [bot_id]


def test_removal_is_refused_twice(database: Database, bot_id: str) -> None:
    remove(database, bot_id)
    with pytest.raises(ConflictError, match="already being removed"):
        remove(database, bot_id, keep_data=True)
    change(database, bot_id, phase=BotPhase.REMOVED)
    with pytest.raises(ConflictError, match="was removed"):
        remove(database, bot_id)


def test_bot_that_needs_attention_is_stopped_and_purged_but_not_started(database: Database, bot_id: str) -> None:
    """Its data may be incomplete until an operator has restored it from the archives."""
    change(database, bot_id, needs_attention="docker start 1234")
    remove(database, bot_id)
    with database.reading() as session:
        assert [found for found, _ in desired_state.list_pending(session)] == [bot_id]
        assert overview.load_overview(session, utcnow()).needing_attention == []
    change(database, bot_id, applied_state=DesiredState.STOPPED)
    assert list_purges(database, timedelta(days=8)) == [bot_id]
    restore(database, bot_id)
    with database.reading() as session:
        assert session.get_one(Bot, bot_id).desired_state is DesiredState.RUNNING
        assert desired_state.list_pending(session) == []
        assert [bot.id for bot in overview.load_overview(session, utcnow()).needing_attention] == [bot_id]
    change(database, bot_id, needs_attention=None)
    with database.reading() as session:
        assert [found for found, _ in desired_state.list_pending(session)] == [bot_id]


def test_deletion_of_the_organization_waits_for_a_bot_that_needs_attention(database: Database, bot_id: str) -> None:
    change(database, bot_id, needs_attention="docker start 1234", applied_state=DesiredState.STOPPED)
    with database.transaction() as session:
        org = session.get_one(Bot, bot_id).org
        org.state, org.delete_after = OrgState.DELETING, utcnow() - timedelta(days=1)
    assert list_purges(database) == []
    change(database, bot_id, needs_attention=None)
    assert list_purges(database) == [bot_id]


def test_organization_in_deletion_decides_over_its_bots(database: Database, bot_id: str) -> None:
    with database.transaction() as session:
        session.get_one(Bot, bot_id).org.state = OrgState.DELETING
    with pytest.raises(ConflictError, match="being deleted"):
        remove(database, bot_id)


def test_restored_organization_leaves_removed_bots_alone(database: Database, bot_id: str) -> None:
    remove(database, bot_id)
    with database.transaction() as session:
        org, alice = session.get_one(Bot, bot_id).org, session.scalars(sa.select(User)).one()
        org_deletion.request_deletion(session, org, typed_name=org.name, actor=alice, now=utcnow())
        org_deletion.restore(session, org, actor=alice, now=utcnow())
    with database.reading() as session:
        assert session.get_one(Bot, bot_id).desired_state is DesiredState.STOPPED
    restore(database, bot_id)
    with database.reading() as session:
        assert session.get_one(Bot, bot_id).desired_state is DesiredState.RUNNING


def test_deleted_organization_waits_for_bots_in_every_phase(database: Database, bot_id: str) -> None:
    change(database, bot_id, phase=BotPhase.CREATING, container_id=None)
    with database.transaction() as session:
        org = session.get_one(Bot, bot_id).org
        org.state, org.delete_after = OrgState.DELETING, utcnow() - timedelta(days=1)
    assert list_purges(database) == [bot_id]
    for expected in (OrgState.DELETING, OrgState.DELETED):
        with database.transaction() as session:
            purging.close_deleted_orgs(session, utcnow())
            assert session.get_one(Bot, bot_id).org.state is expected
            purging.mark_purged(session, bot_id, [])


@pytest.mark.parametrize("phase", [BotPhase.CREATING, BotPhase.REMOVING, BotPhase.REMOVED])
def test_bot_that_is_not_active_is_never_updated(database: Database, bot_id: str, phase: BotPhase) -> None:
    def find_uses() -> list[bool]:
        with database.reading() as session:
            bot = session.get_one(Bot, bot_id)
            target = releases.find_target(session, bot.image)
            assert target is not None
            (candidate,) = eligibility.load_named(session, [bot_id])
            return [
                releases.find_update(session, bot) is not None,
                bot_list.build_rows(session, [bot])[0].available is not None,
                fleet_search.search_bots(session, FleetFilter(show=BotCondition.OUTDATED), utcnow()).total > 0,
                notifications.list_waiting_bots(session, target) != [],
                eligibility.exclusion_reason(candidate, target, Audience.ALL) is not SkipReason.NOT_ELIGIBLE,
            ]

    assert find_uses() == [True] * 5
    change(database, bot_id, phase=phase)
    assert find_uses() == [False] * 5


def test_removed_bot_disappears_from_lists_and_counts(database: Database, bot_id: str) -> None:
    def count() -> list[int]:
        with database.reading() as session:
            bot = session.get_one(Bot, bot_id)
            release = release_list.list_releases(session)
            return [
                fleet_search.search_bots(session, FleetFilter(), utcnow()).total,
                len(bot_list.list_for_org(session, bot.org)),
                org_list.get_org(session, bot.org_id).bots,
                org_deletion.measure_extent(session, bot.org).bots,
                overview.load_overview(session, utcnow()).fleet.bots,
                release_list.list_images(session)[0].bots,
                sum(row.bots for row in release),
                len(observations.list_observable(session, bot.node_id)),
            ]

    assert count() == [1] * 8
    with database.transaction() as session:
        purging.mark_purged(session, bot_id, [])
    assert count() == [0] * 8
    with database.reading() as session, pytest.raises(NotFoundError):
        lookup.find_bot(session, "desk")


def test_members_are_not_synced_to_a_removed_bot(database: Database, bot_id: str) -> None:
    with database.transaction() as session:
        bot = session.get_one(Bot, bot_id)
        member_sync.set_desired_roles_for_bot(session, bot, utcnow())
        purging.mark_purged(session, bot_id, [])
        assert session.get(BotSync, bot_id) is None
        org = session.get_one(Org, bot.org_id)
        member_sync.set_desired_role(
            session, org, factories.membership(session, org, factories.user(session, "bob")), utcnow()
        )
        assert session.scalars(sa.select(MemberSync)).all() == []


def test_filters_of_the_list_show_each_phase(database: Database, bot_id: str) -> None:
    for phase, shown in ((BotPhase.CREATING, BotCondition.CREATING), (BotPhase.REMOVING, BotCondition.REMOVING)):
        change(database, bot_id, phase=phase)
        with database.reading() as session:
            found = {
                condition
                for condition in BotCondition
                if fleet_search.search_bots(session, FleetFilter(show=condition), utcnow()).total
            }
        assert found == {BotCondition.ALL, shown}

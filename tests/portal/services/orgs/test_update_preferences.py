"""Fleet mode, strategy and update preferences of organizations; releases and quarantine."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    Channel,
    Event,
    FleetMode,
    FleetSettings,
    Org,
    Release,
    StrategyName,
    TenantMode,
    TenantUpdateConfig,
    User,
)
from portal.services import fleet_settings
from portal.services.errors import ConflictError, ForbiddenError, InvalidError
from portal.services.orgs import update_preferences
from portal.services.orgs.update_preferences import Preferences
from portal.services.releases import releases
from tests.support.world import IMAGE, World


@pytest.fixture
def world(database: Database) -> World:
    """One node and release 1.0.0; no bots yet."""
    return World(database)


def test_the_settings_are_made_once(database: Database) -> None:
    with database.transaction() as session:
        install = fleet_settings.get_settings(session).install_id
    with database.transaction() as session:
        assert fleet_settings.get_settings(session).install_id == install
        assert session.scalar(sa.select(sa.func.count()).select_from(FleetSettings)) == 1


def test_changes_are_recorded_with_old_and_new_and_only_once(world: World) -> None:
    for _ in range(2):
        with world.database.transaction() as session:
            fleet_settings.set_mode(session, FleetMode.PAUSED, session.get_one(User, world.root_id))

    with world.database.reading() as session:
        event = session.scalars(sa.select(Event)).one()
        assert event.data == {"of": "fleet", "old": {"mode": "auto"}, "new": {"mode": "paused"}}
        assert event.actor_id == world.root_id


def test_the_fleets_strategy_is_checked(database: Database) -> None:
    with database.transaction() as session:
        with pytest.raises(InvalidError) as refused:
            fleet_settings.set_strategy(session, StrategyName.ROLLING_WAVE, {"percentage": 0}, 2, None)
        assert refused.value.field == "percentage"
        with pytest.raises(InvalidError):
            fleet_settings.set_strategy(session, StrategyName.ROLLING_WAVE, {}, 0, None)
        fleet_settings.set_strategy(session, StrategyName.ROLLING_WAVE, {"percentage": "10"}, 4, None)
        assert fleet_settings.get_settings(session).parameters["percentage"] == 10


def test_an_organization_without_a_choice_follows_the_fleets_defaults(world: World) -> None:
    [bot] = world.add_bots(1, mode=None)
    with world.database.transaction() as session:
        org = session.get_one(Bot, bot).org
        assert update_preferences.get_preferences(session, org) == Preferences(TenantMode.MANUAL, 3)
        fleet_settings.set_tenant_defaults(session, TenantMode.AUTO, 22, None)
        assert update_preferences.get_preferences(session, org) == Preferences(TenantMode.AUTO, 22)


def test_what_an_operator_overrides_the_organization_cannot_change(world: World) -> None:
    [bot] = world.add_bots(1, mode=None)
    with world.database.transaction() as session:
        root, org = session.get_one(User, world.root_id), session.get_one(Bot, bot).org
        update_preferences.set_preferences(session, org, TenantMode.AUTO, 5, root)
        update_preferences.set_override(session, org, TenantMode.MANUAL, 6, root)
        with pytest.raises(ForbiddenError, match="managed by your provider"):
            update_preferences.set_preferences(session, org, TenantMode.AUTO, 5, root)
        update_preferences.lift_override(session, org, root)
        assert update_preferences.get_preferences(session, org) == Preferences(TenantMode.MANUAL, 6)
        assert update_preferences.set_preferences(session, org, TenantMode.AUTO, 0, root).hour_utc == 0
        assert _events(session.scalars(sa.select(Event)).all(), org) == ["config.changed"] * 4


def test_what_nobody_overrides_cannot_be_lifted(world: World) -> None:
    [bot] = world.add_bots(1, mode=None)
    with world.database.transaction() as session:
        root, org = session.get_one(User, world.root_id), session.get_one(Bot, bot).org
        assert update_preferences.lift_override(session, org, root) == Preferences(TenantMode.MANUAL, 3)
        assert session.get(TenantUpdateConfig, org.id) is None, "it goes on following the fleet's defaults"
        update_preferences.set_preferences(session, org, TenantMode.AUTO, 5, root)
        assert update_preferences.lift_override(session, org, root) == Preferences(TenantMode.AUTO, 5)
        assert _events(session.scalars(sa.select(Event)).all(), org) == ["config.changed"]


def test_two_who_decide_first_at_the_same_moment_do_so_in_turn(world: World) -> None:
    [bot] = world.add_bots(1, mode=None)
    refused = []

    def second() -> None:
        with world.database.transaction() as session:
            root, org = session.get_one(User, world.root_id), session.get_one(Bot, bot).org
            with pytest.raises(ForbiddenError) as refusal:
                update_preferences.set_preferences(session, org, TenantMode.MANUAL, 5, root)
        refused.append(str(refusal.value))

    other = threading.Thread(target=second)
    with world.database.transaction() as session:
        update_preferences.set_override(session, session.get_one(Bot, bot).org, TenantMode.AUTO, 4, None)
        session.flush()
        other.start()
        other.join(0.3)
    other.join()
    assert ["managed by your provider" in text for text in refused] == [True]
    with world.database.reading() as session:
        assert update_preferences.get_preferences(session, session.get_one(Bot, bot).org) == Preferences(
            TenantMode.AUTO, 4, True
        )


@pytest.mark.parametrize("hour", [-1, 24])
def test_there_are_24_hours(world: World, hour: int) -> None:
    [bot] = world.add_bots(1, mode=None)
    with world.database.transaction() as session:
        root, org = session.get_one(User, world.root_id), session.get_one(Bot, bot).org
        with pytest.raises(InvalidError):
            update_preferences.set_preferences(session, org, TenantMode.AUTO, hour, root)


def test_a_bot_is_behind_when_the_tag_points_at_something_else(world: World) -> None:
    current, pinned = *world.add_bots(1), *world.add_bots(1, release_channel=Channel.PINNED)
    with world.database.reading() as session:
        assert releases.find_update(session, session.get_one(Bot, current)) is None
    new = world.push("2.0.0")

    with world.database.transaction() as session:
        bot, release = session.get_one(Bot, current), session.get_one(Release, new)
        assert releases.find_update(session, bot) is release
        assert releases.find_update(session, session.get_one(Bot, pinned)) is None
        release.platform_digests = {"linux/amd64": "sha256:" + "a" * 64}
        bot.current_digest = "sha256:" + "a" * 64
        assert releases.find_update(session, bot) is None, "the engine knows the release by its platform's digest"


def test_a_quarantined_release_is_nobodys_target(world: World) -> None:
    [bot] = world.add_bots(1)
    new = world.push("2.0.0")

    with world.database.transaction() as session:
        release = session.get_one(Release, new)
        releases.quarantine(session, release, "loses notes", None)
        releases.quarantine(session, release, "again", None)
        assert releases.find_target(session, IMAGE) is None
        assert releases.find_update(session, session.get_one(Bot, bot)) is None
        assert release.quarantine_reason == "loses notes"
        releases.lift_quarantine(session, release, "was the network", None)
        assert releases.find_target(session, IMAGE) is release
        with pytest.raises(ConflictError):
            releases.lift_quarantine(session, release, "twice", None)
    assert world.events() == ["release.quarantined", "release.released"]


def test_a_quarantine_needs_a_reason(world: World) -> None:
    with world.database.transaction() as session:
        release = session.get_one(Release, world.first)
        for verb in (releases.quarantine, releases.lift_quarantine):
            with pytest.raises(InvalidError) as refused:
                verb(session, release, "  ", None)
            assert refused.value.field == "reason"


def _events(events: object, org: Org) -> list[str]:
    assert isinstance(events, list)
    return [event.tag for event in events if event.org_id == org.id]

"""Settings of the fleet: their single row, the events of changes, the checks of the strategy."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Event, FleetMode, FleetSettings, User, utcnow
from portal.rules.strategies import StrategyName
from portal.services import fleet_settings
from portal.services.errors import InvalidError
from tests import factories


def test_settings_have_one_row(database: Database) -> None:
    with database.transaction() as session:
        install_id = fleet_settings.get_settings(session).install_id
    with database.transaction() as session:
        assert fleet_settings.get_settings(session).install_id == install_id
        assert session.scalar(sa.select(sa.func.count()).select_from(FleetSettings)) == 1


def test_change_is_recorded_once_with_old_and_new_value(database: Database) -> None:
    with database.transaction() as session:
        root_id = factories.user(session, "root").id
    for _ in range(2):
        with database.transaction() as session:
            root = session.get_one(User, root_id)
            fleet_settings.set_mode(session, FleetMode.PAUSED, utcnow(), actor=root)

    with database.reading() as session:
        event = session.scalars(sa.select(Event)).one()
        assert event.data == {"of": "fleet", "old": {"mode": "auto"}, "new": {"mode": "paused"}}
        assert event.actor_id == root_id


def test_strategy_with_invalid_parameters_is_refused(database: Database) -> None:
    rolling, now = StrategyName.ROLLING_WAVE, utcnow()
    with database.transaction() as session:
        with pytest.raises(InvalidError) as refusal:
            fleet_settings.set_strategy(session, rolling, {"percentage": 0}, 2, now, actor=None)
        assert refusal.value.field == "percentage"
        with pytest.raises(InvalidError):
            fleet_settings.set_strategy(session, rolling, {}, 0, now, actor=None)
        fleet_settings.set_strategy(session, rolling, {"percentage": "10"}, 4, now, actor=None)
        assert fleet_settings.get_settings(session).parameters["percentage"] == 10

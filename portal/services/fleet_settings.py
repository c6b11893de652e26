"""The settings of the fleet as a whole, which operators change while everything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from portal.models import EventTag, FleetMode, FleetSettings, StrategyName, TenantMode, User, utcnow
from portal.rules.strategies import ParameterError, parse_parameters
from portal.services import events
from portal.services.errors import InvalidError, StaleError

_ONLY = 1
_HOURS = range(24)
_PARALLEL = range(1, 51)


def get_settings(session: Session) -> FleetSettings:
    """Return the one row of settings, which a migration creates."""
    return session.get_one(FleetSettings, _ONLY)


def require_current_version(session: Session, seen: int) -> None:
    """Lock the settings, and make sure that nobody changed them since a form was opened.

    Raises:
        StaleError: somebody did.
    """
    settings = session.get_one(FleetSettings, _ONLY, with_for_update=True, populate_existing=True)
    if settings.version != seen:
        raise StaleError("Somebody else changed the settings meanwhile. Look again, then decide.")


def set_mode(session: Session, mode: FleetMode, actor: User | None) -> FleetSettings:
    """Switch the whole fleet: automatic, every organization treated as manual, or nothing starts at all."""
    return _change(session, actor, mode=mode)


def set_strategy(
    session: Session, strategy: StrategyName, parameters: Mapping[str, Any], max_parallel: int, actor: User | None
) -> FleetSettings:
    """Choose how automatic rollouts walk through the fleet, and how many bots of one node update side by side.

    Raises:
        InvalidError: naming the field that makes no sense.
    """
    if max_parallel not in _PARALLEL:
        raise InvalidError(f"Choose from {_PARALLEL[0]} to {_PARALLEL[-1]} updates per node.", "max_parallel")
    try:
        checked = parse_parameters(strategy, parameters)
    except ParameterError as error:
        raise InvalidError(str(error), error.field) from None
    return _change(session, actor, strategy=strategy, parameters=checked, max_parallel=max_parallel)


def set_tenant_defaults(session: Session, mode: TenantMode, hour: int, actor: User | None) -> FleetSettings:
    """Set what holds for organizations that have chosen nothing themselves.

    Raises:
        InvalidError: for an hour outside 0 to 23.
    """
    if hour not in _HOURS:
        raise InvalidError("Choose an hour from 0 to 23, in UTC.", "tenant_hour_utc")
    return _change(session, actor, tenant_mode=mode, tenant_hour_utc=hour)


def _change(session: Session, actor: User | None, **values: Any) -> FleetSettings:
    settings = get_settings(session)
    old = {name: getattr(settings, name) for name in values}
    if old == values:
        return settings
    for name, value in values.items():
        setattr(settings, name, value)
    settings.version += 1
    settings.updated_at = utcnow()
    data = {"of": "fleet", "old": old, "new": values}
    events.record(session, EventTag.CONFIG_CHANGED, actor=actor, data=data)
    return settings

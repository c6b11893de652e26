"""Settings of the whole fleet: read and change. Used by rollouts, settings pages and commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.models import EventTag, FleetMode, FleetSettings, TenantMode, User
from portal.rules.strategies import ParameterError, StrategyName, parse_parameters
from portal.services import events
from portal.services.errors import InvalidError, StaleError

_ROW_ID = 1
_HOURS = range(24)
_PARALLEL = range(1, 51)
_VARIABLE_PATTERN = re.compile(r"[A-Z0-9_*]{1,100}")
_MAX_PATTERNS = 50


def get_settings(session: Session) -> FleetSettings:
    """Return the settings. A migration creates their one row."""
    return session.get_one(FleetSettings, _ROW_ID)


def require_current_version(session: Session, seen: int) -> None:
    """Lock the settings and check that they still have the version that a form has shown.

    Raises:
        StaleError: the settings were changed in the meantime.
    """
    settings = session.get_one(FleetSettings, _ROW_ID, with_for_update=True, populate_existing=True)
    if settings.version != seen:
        raise StaleError("Another operator changed the settings. Check the current values and save again.")


def set_mode(session: Session, mode: FleetMode, now: datetime, *, actor: User | None) -> FleetSettings:
    """Set the mode of the fleet: automatic, manual for every organization, or paused."""
    return _change(session, now, actor=actor, mode=mode)


def set_strategy(
    session: Session,
    strategy: StrategyName,
    parameters: Mapping[str, Any],
    max_parallel: int,
    now: datetime,
    *,
    actor: User | None,
) -> FleetSettings:
    """Set the strategy of automatic rollouts, and how many bots of one node are updated in parallel.

    Raises:
        InvalidError: a parameter is invalid; the error names its field.
    """
    if max_parallel not in _PARALLEL:
        raise InvalidError(f"Enter a number from {_PARALLEL[0]} to {_PARALLEL[-1]}.", "max_parallel")
    try:
        checked = parse_parameters(strategy, parameters)
    except ParameterError as error:
        raise InvalidError(str(error), error.field) from None
    return _change(session, now, actor=actor, strategy=strategy, parameters=checked, max_parallel=max_parallel)


def set_tenant_defaults(
    session: Session, mode: TenantMode, hour: int, now: datetime, *, actor: User | None
) -> FleetSettings:
    """Set the update preferences of organizations that have set none.

    Args:
        session: the transaction.
        mode: the update mode.
        hour: the update hour, 0 to 23, UTC.
        now: the moment.
        actor: the operator.

    Raises:
        InvalidError: the hour is not from 0 to 23.
    """
    if hour not in _HOURS:
        raise InvalidError("Choose an hour from 0 to 23 (UTC).", "tenant_hour_utc")
    return _change(session, now, actor=actor, tenant_mode=mode, tenant_hour_utc=hour)


def set_log_settings(
    session: Session,
    *,
    members_read_logs: bool,
    secret_variables: Sequence[str],
    now: datetime,
    actor: User | None,
) -> FleetSettings:
    """Set who reads the logs of bots, and which environment variables contain secrets that logs must not show.

    Args:
        session: the transaction.
        members_read_logs: whether members read logs, like owners, admins and operators.
        secret_variables: patterns of names; `*` stands for any characters.
        now: the moment.
        actor: the operator.

    Raises:
        InvalidError: a pattern is invalid, or there are too many.
    """
    patterns = list(dict.fromkeys(pattern.strip().upper() for pattern in secret_variables if pattern.strip()))
    wrong = next((pattern for pattern in patterns if not _VARIABLE_PATTERN.fullmatch(pattern)), None)
    if wrong is not None:
        raise InvalidError(
            f"{wrong[:100]} is no name of a variable. Use letters, digits, _ and *.", "secret_variables"
        )
    if len(patterns) > _MAX_PATTERNS:
        raise InvalidError(f"Enter at most {_MAX_PATTERNS} names.", "secret_variables")
    return _change(session, now, actor=actor, members_read_logs=members_read_logs, secret_variables=patterns)


def _change(session: Session, now: datetime, *, actor: User | None, **values: Any) -> FleetSettings:
    settings = get_settings(session)
    old = {name: getattr(settings, name) for name in values}
    if old == values:
        return settings
    for name, value in values.items():
        setattr(settings, name, value)
    settings.version += 1
    settings.updated_at = now
    data = {"of": "fleet", "old": old, "new": values}
    events.record(session, EventTag.CONFIG_CHANGED, actor=actor, data=data)
    return settings

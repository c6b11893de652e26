"""Update preferences of an organization: automatic at an hour of the day, or manual. Operators can override them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.orm import Session

from portal.models import EventTag, FleetSettings, Org, TenantMode, TenantUpdateConfig, User
from portal.services import events, fleet_settings
from portal.services.errors import ForbiddenError, InvalidError, StaleError
from portal.services.orgs import orgs

_HOURS = range(24)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences in effect for an organization: its own, an operator's override, or the fleet's default."""

    mode: TenantMode
    hour_utc: int
    overridden_by_operator: bool = False
    version: int = field(default=0, compare=False)
    """The version of the organization's row, for forms; 0 without a row."""


def resolve_preferences(config: TenantUpdateConfig | None, defaults: FleetSettings) -> Preferences:
    """Return the preferences of an organization's row, or the fleet's defaults where it has no row."""
    if config is None:
        return Preferences(defaults.tenant_mode, defaults.tenant_hour_utc)
    return Preferences(config.mode, config.preferred_hour_utc, config.overridden_by_operator, config.version)


def get_preferences(session: Session, org: Org) -> Preferences:
    """Return the preferences in effect for an organization."""
    return resolve_preferences(_get_config(session, org), fleet_settings.get_settings(session))


def require_current_version(session: Session, org: Org, seen: int) -> None:
    """Lock the organization, and check that its preferences still have the version that a form showed.

    Raises:
        StaleError: the preferences were changed since.
    """
    orgs.lock_org(session, org)
    if get_preferences(session, org).version != seen:
        raise StaleError("Another person changed the update settings. Check the current values, then save again.")


def set_preferences(
    session: Session, org: Org, mode: TenantMode, hour_utc: int, *, actor: User, now: datetime
) -> Preferences:
    """Store the organization's own preferences.

    Args:
        session: the transaction.
        org: the organization.
        mode: automatic or manual.
        hour_utc: the hour of automatic updates, 0 to 23.
        actor: an owner or admin.
        now: the current moment.

    Raises:
        ForbiddenError: an operator has overridden the preferences.
        InvalidError: the hour is out of range.
    """
    orgs.lock_org(session, org)
    if get_preferences(session, org).overridden_by_operator:
        raise ForbiddenError("Your provider manages the updates of this organization. Ask them to change it.")
    return _store(session, org, Preferences(mode, hour_utc), actor=actor, now=now)


def set_override(
    session: Session, org: Org, mode: TenantMode, hour_utc: int, *, actor: User | None, now: datetime
) -> Preferences:
    """Override the preferences as an operator. The organization cannot change them until the override is lifted.

    Args:
        session: the transaction.
        org: the organization.
        mode: automatic or manual.
        hour_utc: the hour of automatic updates, 0 to 23.
        actor: the operator; None for the command line.
        now: the current moment.

    Raises:
        InvalidError: the hour is out of range.
    """
    orgs.lock_org(session, org)
    override = Preferences(mode, hour_utc, overridden_by_operator=True)
    return _store(session, org, override, actor=actor, now=now)


def lift_override(session: Session, org: Org, *, actor: User | None, now: datetime) -> Preferences:
    """Return control to the organization, which starts with the operator's values. Without an override do nothing.

    Args:
        session: the transaction.
        org: the organization.
        actor: the operator; None for the command line.
        now: the current moment.
    """
    orgs.lock_org(session, org)
    current = get_preferences(session, org)
    if not current.overridden_by_operator:
        return current
    return _store(session, org, Preferences(current.mode, current.hour_utc), actor=actor, now=now)


def _get_config(session: Session, org: Org) -> TenantUpdateConfig | None:
    return session.get(TenantUpdateConfig, org.id, populate_existing=True)


def _store(session: Session, org: Org, new: Preferences, *, actor: User | None, now: datetime) -> Preferences:
    if new.hour_utc not in _HOURS:
        raise InvalidError("Choose an hour from 0 to 23, in UTC.", "preferred_hour_utc")
    old = get_preferences(session, org)
    config = _get_config(session, org)
    if config is None:
        # The organization is locked, so no other transaction adds its first row.
        config = TenantUpdateConfig(org_id=org.id, version=0)
        session.add(config)
    elif old == new:
        return old
    config.mode = new.mode
    config.preferred_hour_utc = new.hour_utc
    config.overridden_by_operator = new.overridden_by_operator
    config.updated_at = now
    config.updated_by = actor.id if actor else None
    config.version += 1
    data = {"of": "updates", "old": _as_event_data(old), "new": _as_event_data(new)}
    events.record(session, EventTag.CONFIG_CHANGED, actor=actor, org_id=org.id, data=data)
    return replace(new, version=config.version)


def _as_event_data(preferences: Preferences) -> dict[str, str | int | bool]:
    return {
        "mode": preferences.mode,
        "hour_utc": preferences.hour_utc,
        "overridden_by_operator": preferences.overridden_by_operator,
    }

"""How an organization wants its updates: by themselves inside an hour of the day, or by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlalchemy.orm import Session

from portal.models import EventTag, FleetSettings, Org, TenantMode, TenantUpdateConfig, User, utcnow
from portal.services import events, fleet_settings
from portal.services.errors import ForbiddenError, InvalidError, StaleError
from portal.services.orgs import orgs

_HOURS = range(24)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What holds for an organization: its own choice, an operator's, or the fleet's default."""

    mode: TenantMode
    hour_utc: int
    overridden_by_operator: bool = False
    version: int = field(default=0, compare=False)
    """Of the organization's row, for forms to carry; 0 while there is none."""


def resolve_preferences(config: TenantUpdateConfig | None, defaults: FleetSettings) -> Preferences:
    """Combine an organization's row, which may be missing, with the fleet's defaults."""
    if config is None:
        return Preferences(defaults.tenant_mode, defaults.tenant_hour_utc)
    return Preferences(config.mode, config.preferred_hour_utc, config.overridden_by_operator, config.version)


def get_preferences(session: Session, org: Org) -> Preferences:
    """Tell what holds for this organization now."""
    return resolve_preferences(_row(session, org), fleet_settings.get_settings(session))


def require_current_version(session: Session, org: Org, seen: int) -> None:
    """Lock the organization, and make sure that nobody changed the preferences since a form was opened.

    Raises:
        StaleError: somebody did.
    """
    orgs.lock_org(session, org)
    if get_preferences(session, org).version != seen:
        raise StaleError("Somebody else changed the update preferences meanwhile. Look again, then decide.")


def set_preferences(session: Session, org: Org, mode: TenantMode, hour_utc: int, actor: User) -> Preferences:
    """Store the choice of an owner or admin.

    Raises:
        ForbiddenError: when an operator has overridden it.
        InvalidError: for an hour outside 0 to 23.
    """
    orgs.lock_org(session, org)
    if get_preferences(session, org).overridden_by_operator:
        raise ForbiddenError("Updates of this organization are managed by your provider; ask them for a change.")
    return _store(session, org, Preferences(mode, hour_utc), actor)


def set_override(session: Session, org: Org, mode: TenantMode, hour_utc: int, actor: User | None) -> Preferences:
    """Decide as an operator; the organization can look but not change until the override is lifted.

    Without an actor it is an operator at the command line.

    Raises:
        InvalidError: for an hour outside 0 to 23.
    """
    orgs.lock_org(session, org)
    return _store(session, org, Preferences(mode, hour_utc, overridden_by_operator=True), actor)


def lift_override(session: Session, org: Org, actor: User | None) -> Preferences:
    """Let the organization decide again, starting from what the operator had set; where it does, nothing changes.

    Without an actor it is an operator at the command line.
    """
    orgs.lock_org(session, org)
    current = get_preferences(session, org)
    if not current.overridden_by_operator:
        return current
    return _store(session, org, Preferences(current.mode, current.hour_utc), actor)


def _row(session: Session, org: Org) -> TenantUpdateConfig | None:
    return session.get(TenantUpdateConfig, org.id, populate_existing=True)


def _store(session: Session, org: Org, new: Preferences, actor: User | None) -> Preferences:
    if new.hour_utc not in _HOURS:
        raise InvalidError("Choose an hour from 0 to 23, in UTC.", "preferred_hour_utc")
    old = get_preferences(session, org)
    config = _row(session, org)
    if config is None:
        # The organization is locked, so nobody else is making its first row.
        config = TenantUpdateConfig(org_id=org.id, version=0)
        session.add(config)
    elif old == new:
        return old
    config.mode = new.mode
    config.preferred_hour_utc = new.hour_utc
    config.overridden_by_operator = new.overridden_by_operator
    config.updated_at = utcnow()
    config.updated_by = actor.id if actor else None
    config.version += 1
    data = {"of": "updates", "old": _plain(old), "new": _plain(new)}
    events.record(session, EventTag.CONFIG_CHANGED, actor=actor, org_id=org.id, data=data)
    return replace(new, version=config.version)


def _plain(preferences: Preferences) -> dict[str, str | int | bool]:
    return {
        "mode": preferences.mode,
        "hour_utc": preferences.hour_utc,
        "overridden_by_operator": preferences.overridden_by_operator,
    }

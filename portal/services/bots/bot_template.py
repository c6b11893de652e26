"""The bot template: read, check and change the settings of new bots. Used by creation, its page and its command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.models import BotTemplate, Channel, EventTag, HealthExpectation
from portal.rules import container_settings as checks
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import InvalidReference, parse_reference
from portal.services import events
from portal.services.errors import InvalidFieldsError, StaleError
from portal.services.events import Actor

_ROW_ID = 1
_LARGEST_INTEGER = 2**31 - 1
_PORTS = (1, 2**16 - 1)
_RANGES = {
    "port": _PORTS,
    "memory_mb": (16, 4_194_304),
    "cpu_millis": (10, 1_024_000),
    "pids_limit": (10, 4_194_304),
    "budget_cents": (0, _LARGEST_INTEGER),
    "per_agent_budget_cents": (0, _LARGEST_INTEGER),
}
"""Smallest and largest value of each number."""


@dataclass(frozen=True, kw_only=True)
class TemplateValues:
    """The settings of the template; see `BotTemplate` for the fields."""

    image: str | None
    release_channel: Channel
    environment: dict[str, str] = field(repr=False)
    hosted_environment: dict[str, str]
    port: int
    health_path: str
    health_expectation: HealthExpectation
    volumes: list[str]
    memory_mb: int | None
    cpu_millis: int | None
    pids_limit: int | None
    capabilities: list[str]
    header_prefix: str
    secret_variable: str
    gateway_url: str | None
    api_key: str | None = field(repr=False)
    budget_cents: int
    per_agent_budget_cents: int | None
    agents: list[dict[str, Any]]
    extra: dict[str, Any]
    create_for_new_orgs: bool


def get_template(session: Session) -> BotTemplate:
    """Return the template. A migration creates its one row."""
    return session.get_one(BotTemplate, _ROW_ID)


def lock_template(session: Session) -> BotTemplate:
    """Lock the template until the transaction ends, and read it again.

    Creations of bots and changes of the template hold this lock, so that two creations never choose the same port.
    """
    return session.get_one(BotTemplate, _ROW_ID, with_for_update=True, populate_existing=True)


def read_values(template: BotTemplate) -> TemplateValues:
    """Return the settings of the template."""
    values = {entry.name: getattr(template, entry.name) for entry in fields(TemplateValues)}
    return TemplateValues(**{**values, "environment": values["environment"] or {}})


def change_template(
    session: Session, allowlist: Allowlist, values: TemplateValues, *, seen: int, now: datetime, actor: Actor
) -> BotTemplate:
    """Change the template. Existing bots keep their settings.

    Args:
        session: a writing transaction.
        allowlist: the images that may run.
        values: all settings, changed or not.
        seen: the version of the template that the operator saw.
        now: the moment.
        actor: the operator; None for the command line.

    Raises:
        StaleError: the template was changed in between.
        InvalidFieldsError: some values are not valid; the error names each of them.
    """
    template = lock_template(session)
    if template.version != seen:
        raise StaleError("Another operator changed the template. Check the current values and save again.")
    if problems := dict(_find_problems(values, allowlist)):
        raise InvalidFieldsError(problems)
    if values.image is not None:
        values = replace(values, image=str(parse_reference(values.image)))
    old = read_values(template)
    if old == values:
        return template
    changed = [entry.name for entry in fields(values) if getattr(old, entry.name) != getattr(values, entry.name)]
    for name in changed:
        setattr(template, name, getattr(values, name))
    template.version += 1
    template.updated_at = now
    shown = [{name: _describe(state, name) for name in changed} for state in (old, values)]
    data = {"of": "bot_template", "old": shown[0], "new": shown[1], "note": _describe_replaced(old, values)}
    events.record(session, EventTag.CONFIG_CHANGED, actor=actor, data=data)
    return template


def _find_problems(values: TemplateValues, allowlist: Allowlist) -> Iterator[tuple[str, str]]:
    """Yield the name of each invalid setting with what is wrong."""
    secrets = {values.secret_variable, previous_secret_variable(values.secret_variable)}
    found = {
        "image": _find_image_problem(values.image, allowlist),
        "environment": checks.find_variables_problem(values.environment, secrets),
        "hosted_environment": checks.find_variables_problem(
            values.hosted_environment, secrets | values.environment.keys()
        ),
        "health_path": checks.find_health_path_problem(values.health_path),
        "volumes": checks.find_volumes_problem(values.volumes),
        "capabilities": checks.find_capabilities_problem(values.capabilities),
        "header_prefix": checks.find_header_prefix_problem(values.header_prefix),
        "secret_variable": checks.find_variable_name_problem(values.secret_variable),
        "gateway_url": checks.find_url_problem(values.gateway_url) if values.gateway_url else None,
        "api_key": _find_api_key_problem(values.api_key),
        "agents": checks.find_json_problem(values.agents, list),
        "extra": checks.find_json_problem(values.extra, dict),
        "create_for_new_orgs": _find_automation_problem(values),
    }
    found |= {name: checks.find_range_problem(getattr(values, name), *limits) for name, limits in _RANGES.items()}
    return ((name, problem) for name, problem in found.items() if problem)


def previous_secret_variable(secret_variable: str) -> str:
    """Return the variable that contains the other provision secret while a rotation is in progress."""
    return f"{secret_variable}_PREVIOUS"


def _find_image_problem(image: str | None, allowlist: Allowlist) -> str | None:
    if image is None:
        return None
    try:
        reference = parse_reference(image)
        allowlist.require(reference)
    except (InvalidReference, ImageNotAllowed) as error:
        return str(error)
    if reference.digest is not None:
        return "Enter an image with a tag, which bots can follow, instead of a digest."
    return None if len(str(reference)) <= 300 else "Use at most 300 characters."


def _find_api_key_problem(api_key: str | None) -> str | None:
    valid = api_key is None or (0 < len(api_key) <= 1000 and api_key.isascii() and api_key.isprintable())
    return None if valid else "Enter at most 1000 ASCII characters on one line."


def _find_automation_problem(values: TemplateValues) -> str | None:
    missing = values.create_for_new_orgs and values.image is None
    return "Enter an image first, because new organizations would wait for their bots." if missing else None


def _describe(values: TemplateValues, name: str) -> Any:
    """Return a setting for the event log: names of variables and numbers of objects, never their values."""
    value = getattr(values, name)
    match name:
        case "api_key":
            return "set" if value else "not set"
        case "environment" | "hosted_environment" | "extra":
            return ", ".join(sorted(value)) or "none"
        case "agents":
            return len(value)
        case "volumes" | "capabilities":
            return ", ".join(value) or "none"
        case _:
            return value


def _describe_replaced(old: TemplateValues, new: TemplateValues) -> str:
    """Name the secrets that have another value under the same name; empty for none."""
    kept = old.environment.keys() & new.environment.keys()
    replaced = [name for name in kept if old.environment[name] != new.environment[name]]
    is_new_key = old.api_key and new.api_key and old.api_key != new.api_key
    names = sorted(replaced) + (["the API key"] if is_new_key else [])
    return f"new values of {', '.join(names)}" if names else ""

"""The answers of bots: their shapes, checked before anything is used. Used by the provision client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon.provision.failures import BadAnswerError
from portal.rules.member_drift import ListedMember

_MAX_COMPANY_ID = 100
_MAX_USER_ID = 200
_MAX_ROLE = 50
_MAX_VERSION = 2**31 - 2
"""The largest version that has a successor in an integer column."""


def read_health(content: Mapping[str, Any]) -> bool:
    """Read the answer to the health call: whether the bot can be provisioned.

    Raises:
        BadAnswerError: as all functions here, the answer has another shape.
    """
    require_values(content, {"ok": True})
    _read(content, "managed", bool)
    can_be_provisioned: bool = _read(content, "provisioning", bool)
    return can_be_provisioned


def read_company_id(content: Mapping[str, Any]) -> str:
    """Read the bot's id of the company from the answer to the provision call."""
    company_id = _read_text(content, "tenantEntityId", _MAX_COMPANY_ID)
    _read_text(content, "adminUserId", _MAX_USER_ID)
    if not isinstance(content.get("agents", []), list):
        raise _wrong("agents")
    return company_id


def read_members(content: Mapping[str, Any]) -> list[ListedMember]:
    """Read the list of members. No user may be in it twice."""
    members = [_read_member(entry) for entry in _read(content, "members", list)]
    if len({member.user_id for member in members}) < len(members):
        raise BadAnswerError("the list of members names a user twice")
    return members


def require_values(content: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that an answer repeats values, so that an answer to another call is noticed."""
    for name, value in expected.items():
        if type(content.get(name)) is not type(value) or content[name] != value:
            raise _wrong(name)


def _read_member(entry: Any) -> ListedMember:
    if not isinstance(entry, dict):
        raise _wrong("members")
    version, grants = entry.get("version"), entry.get("grants")
    if version is not None and (type(version) is not int or not 0 <= version <= _MAX_VERSION):
        raise _wrong("members.version")
    if grants is not None and not (isinstance(grants, list) and all(isinstance(grant, str) for grant in grants)):
        raise _wrong("members.grants")
    return ListedMember(
        user_id=_read_text(entry, "userId", _MAX_USER_ID),
        role=_read_text(entry, "role", _MAX_ROLE),
        version=version,
        grants=None if grants is None else frozenset(grants),
    )


def _read(content: Mapping[str, Any], name: str, kind: type) -> Any:
    value = content.get(name)
    if type(value) is not kind:
        raise _wrong(name)
    return value


def _read_text(content: Mapping[str, Any], name: str, limit: int) -> str:
    text: str = _read(content, name, str)
    if not 0 < len(text) <= limit or not text.isprintable():
        raise _wrong(name)
    return text


def _wrong(name: str) -> BadAnswerError:
    return BadAnswerError(f"the answer has a missing or wrong field {name}")

"""The calls of the provision protocol, as the platform sends them. Used by `Trial`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from daemon.conformance.exchange import MAX_ANSWER_BYTES, MAX_LIST_BYTES, Request

PROVISION = "POST /internal/provision"
SET_BUDGET = "PUT /internal/provision/budget"
TEAR_DOWN = "DELETE /internal/provision"
ADD = "POST /internal/members/add"
CHANGE_ROLE = "POST /internal/members/change-role"
REMOVE = "POST /internal/members/remove"
LIST = "GET /internal/members"
HEALTH = "GET /internal/provision/health"

Body = dict[str, Any]

_UNENCODED = "".join(character for character in map(chr, range(0x20, 0x7F)) if character != "%")


@dataclass(frozen=True)
class Person:
    """A person of the platform."""

    id: str
    email: str
    name: str

    @classmethod
    def create(cls, name: str = "Kim Kit") -> Person:
        """Return a person with a new id."""
        number = uuid.uuid4().hex[:8]
        return cls(f"kit-{number}", f"kit-{number}@conformance.example", name)

    def to_body(self) -> Body:
        """Return the person as the protocol sends it."""
        return {"id": self.id, "email": self.email, "name": self.name}


def provision_body(tenant: str, owner: Person) -> Body:
    """Return the body of a provisioning.

    Args:
        tenant: the platform's id of the organization.
        owner: its owner.
    """
    return {
        "tenantId": tenant,
        "tenantName": f"Conformance {tenant}",
        "gatewayUrl": "https://models.conformance.example",
        "apiKey": "conformance-key",
        "budgetCents": 5000,
        "adminUser": owner.to_body(),
        "agents": [],
        "extra": {},
    }


def add_body(company: str, person: Person, role: str, version: int) -> Body:
    """Return the body of an addition."""
    return {"companyId": company, "user": person.to_body(), "role": role, "version": version}


def change_role_body(company: str, person: Person, role: str, version: int) -> Body:
    """Return the body of a change of role."""
    return {"companyId": company, "userId": person.id, "role": role, "version": version}


def remove_body(company: str, person: Person, version: int) -> Body:
    """Return the body of a removal."""
    return {"companyId": company, "userId": person.id, "version": version}


def list_members(company: str) -> str:
    """Return the call that lists the members of a company."""
    return f"{LIST}?companyId={quote(company, safe='')}"


def create_request(
    call: str, body: object = None, *, authorization: str | None = None, key: str | None = None
) -> Request:
    """Return the request of a call.

    Args:
        call: method and path.
        body: sent as JSON; bytes are sent as they are; None for none.
        authorization: value of the header `Authorization`, or None to leave the header out.
        key: value of the header `Idempotency-Key`; a new one by default.
    """
    method, _, path = call.partition(" ")
    headers = {"Idempotency-Key": key or uuid.uuid4().hex} if method != "GET" else {}
    if authorization is not None:
        headers["Authorization"] = authorization
    limit = MAX_LIST_BYTES if call.startswith(LIST) else MAX_ANSWER_BYTES
    if body is None:
        return Request(method, path, headers, max_bytes=limit)
    headers["Content-Type"] = "application/json"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method, path, headers, content, limit)


def identity_headers(prefix: str, person: Person, *parts: str) -> Mapping[str, str]:
    """Return the identity headers that the gateway sends for a person.

    Args:
        prefix: prefix of the names.
        person: the person.
        parts: the headers to send: `id`, `email`, `name`.
    """
    values = {"id": person.id, "email": person.email, "name": person.name}
    return {f"{prefix}-{part}": encode_header(values[part]) for part in parts}


def encode_header(text: str, limit: int = 256) -> str:
    """Percent-encode everything but printable ASCII, and cut between two characters, as the gateway does.

    Args:
        text: any text.
        limit: maximum length of the result.
    """
    encoded = [quote(character, safe=_UNENCODED) for character in text.strip()]
    while sum(map(len, encoded)) > limit:
        encoded.pop()
    return "".join(encoded).strip()

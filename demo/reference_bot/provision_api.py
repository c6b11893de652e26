"""The provision protocol: the calls under `/internal`, by which the platform manages companies and members.

Used by the HTTP server. Every call is one transaction, which also stores the answer for its `Idempotency-Key`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from . import companies, members
from .companies import Company
from .configuration import Configuration
from .database import Database
from .fields import Fields, InvalidField, parse_object
from .idempotency import find_answer, forget_answers, store_answer
from .members import Member, Person, StaleVersion, UnknownCompany, UnknownUser
from .roles import ROLES

PREFIX = "/internal/"
HEALTH_PATH = "/internal/provision/health"
_REFUSALS: Mapping[type[Exception], tuple[HTTPStatus, str]] = {
    UnknownCompany: (HTTPStatus.NOT_FOUND, "unknown company"),
    UnknownUser: (HTTPStatus.NOT_FOUND, "unknown user"),
    StaleVersion: (HTTPStatus.CONFLICT, "stale"),
}


@dataclass(frozen=True)
class Call:
    """A request to a path under `/internal`.

    Attributes:
        method: the HTTP method.
        path: the path without the query.
        query: the query's parameters.
        authorization: value of the header `Authorization`; empty without one.
        idempotency_key: value of the header `Idempotency-Key`; None without one.
        read_body: reads the body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str
    idempotency_key: str | None
    read_body: Callable[[], bytes]


@dataclass(frozen=True)
class Answer:
    """Status and JSON object of an answer."""

    status: HTTPStatus
    content: dict[str, Any]


class ProvisionApi:
    """Answers calls of the platform, which proves itself by a bearer secret."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        """Change `database`, and accept the secrets of `configuration`."""
        self._database = database
        self._configuration = configuration

    def answer(self, call: Call) -> Answer:
        """Answer a call; a refused call changes nothing.

        Raises:
            RefusedBody: the body is too large, or its length is unknown or wrong.
            sqlite3.Error: the database does not answer; nothing has changed.
        """
        if (call.method, call.path) == ("GET", HEALTH_PATH):
            return self._report_health()
        if not self._is_authorized(call.authorization):
            return Answer(HTTPStatus.UNAUTHORIZED, {"error": "wrong or missing secret"})
        try:
            return self._answer_authorized(call)
        except InvalidField as error:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error), "field": error.field})
        except (UnknownCompany, UnknownUser, StaleVersion) as error:
            status, problem = _REFUSALS[type(error)]
            return Answer(status, {"error": problem})

    def _report_health(self) -> Answer:
        self._database.check()
        provisioning = bool(self._configuration.secrets)
        content = {"ok": True, "provisioning": provisioning, "managed": self._configuration.hosted}
        return Answer(HTTPStatus.OK, content)

    def _is_authorized(self, authorization: str) -> bool:
        scheme, _, received = authorization.partition(" ")
        # Header values arrive decoded as Latin-1. All secrets are compared, so that the time tells nothing.
        matches = [
            hmac.compare_digest(received.strip().encode("latin-1"), secret.encode())
            for secret in self._configuration.secrets
        ]
        return scheme.lower() == "bearer" and any(matches)

    def _answer_authorized(self, call: Call) -> Answer:
        if (call.method, call.path) == ("GET", "/internal/members"):
            return self._list_members(Fields(call.query))
        change = _CHANGES.get((call.method, call.path))
        if change is None:
            return Answer(HTTPStatus.NOT_FOUND, {"error": "unknown call"})
        content = parse_object(call.read_body())
        if call.idempotency_key is None:
            with self._database.write() as connection:
                return change(connection, Fields(content)).answer
        fingerprint = json.dumps([call.method, call.path, content], sort_keys=True)
        return self._change_once(change, content, call.idempotency_key, fingerprint)

    def _change_once(self, change: _Change, content: dict[str, Any], key: str, fingerprint: str) -> Answer:
        # Only a digest is stored, because the content of a call contains secrets.
        digest = hashlib.sha256(fingerprint.encode()).hexdigest()
        with self._database.write() as connection:
            if (stored := find_answer(connection, key, digest)) is not None:
                return Answer(HTTPStatus(stored[0]), stored[1])
            done = change(connection, Fields(content))
            status, answer = done.answer.status, done.answer.content
            store_answer(connection, key, digest, status, answer, company_id=done.company_id)
        return done.answer

    def _list_members(self, query: Fields) -> Answer:
        with self._database.read() as connection:
            found = members.list_members(connection, query.read_text("companyId"))
        return Answer(HTTPStatus.OK, {"members": [_describe(member) for member in found]})


@dataclass(frozen=True)
class _Done:
    """A change that was made: its answer, and the company that it concerns."""

    answer: Answer
    company_id: str


_Change = Callable[[sqlite3.Connection, Fields], _Done]


def _provision(connection: sqlite3.Connection, body: Fields) -> _Done:
    # This bot has no agents and sends nothing to the gateway, so it checks these fields and does not store them.
    for name in ("gatewayUrl", "apiKey"):
        if not body.is_null(name):
            body.read_text(name, 1000, may_be_empty=True)
    body.check_optional("agents", list, "a list")
    body.check_optional("extra", dict, "an object")
    tenant_id = body.read_text("tenantId")
    company = Company(body.read_text("tenantName"), body.read_number("budgetCents"))
    admin = _read_person(body.read_object("adminUser"))
    company_id = companies.provision(connection, tenant_id, company, admin)
    content = {"tenantEntityId": company_id, "adminUserId": admin.user_id, "agents": []}
    return _Done(Answer(HTTPStatus.CREATED, content), company_id)


def _change_budget(connection: sqlite3.Connection, body: Fields) -> _Done:
    company_id, budget = body.read_text("tenantEntityId"), body.read_number("budgetCents")
    body.read_optional_number("perAgentCents")
    companies.change_budget(connection, company_id, budget)
    return _Done(_ok(tenantEntityId=company_id, budgetCents=budget), company_id)


def _delete_company(connection: sqlite3.Connection, body: Fields) -> _Done:
    company_id = body.read_text("tenantEntityId")
    companies.delete_company(connection, company_id)
    forget_answers(connection, company_id)
    return _Done(_ok(tenantEntityId=company_id), company_id)


def _add_member(connection: sqlite3.Connection, body: Fields) -> _Done:
    company_id, person = body.read_text("companyId"), _read_person(body.read_object("user"))
    role, version = body.read_choice("role", ROLES), _read_version(body)
    members.add_member(connection, company_id, person, role, version)
    return _Done(_ok(), company_id)


def _remove_member(connection: sqlite3.Connection, body: Fields) -> _Done:
    company_id, user_id = body.read_text("companyId"), body.read_text("userId")
    members.remove_member(connection, company_id, user_id, _read_version(body))
    return _Done(_ok(), company_id)


def _change_role(connection: sqlite3.Connection, body: Fields) -> _Done:
    company_id, user_id = body.read_text("companyId"), body.read_text("userId")
    role, version = body.read_choice("role", ROLES), _read_version(body)
    members.change_role(connection, company_id, user_id, role, version)
    return _Done(_ok(), company_id)


_CHANGES: dict[tuple[str, str], _Change] = {
    ("POST", "/internal/provision"): _provision,
    ("PUT", "/internal/provision/budget"): _change_budget,
    ("DELETE", "/internal/provision"): _delete_company,
    ("POST", "/internal/members/add"): _add_member,
    ("POST", "/internal/members/remove"): _remove_member,
    ("POST", "/internal/members/change-role"): _change_role,
}
"""The calls that change something, by method and path."""


def _ok(**content: Any) -> Answer:
    return Answer(HTTPStatus.OK, {"ok": True, **content})


def _read_person(user: Fields) -> Person:
    return Person(user.read_text("id"), user.read_text("email", 254), user.read_text("name", may_be_empty=True))


def _read_version(body: Fields) -> int | None:
    return body.read_optional_number("version", smallest=1)


def _describe(member: Member) -> dict[str, Any]:
    version = {} if member.version is None else {"version": member.version}
    return {
        "userId": member.person.user_id,
        "role": member.role,
        **version,
        "grants": list(member.grants),
        "instanceAdmin": member.instance_admin,
    }

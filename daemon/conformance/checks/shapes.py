"""Checks of invalid calls: missing fields, wrong types, no JSON, giant bodies. They change nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks.provisioning import provisioning_creates_company
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.provision_calls import Body, Person
from daemon.conformance.trial import Company, Trial

_OPTIONAL = {"agents", "extra", "version", "gatewayUrl", "apiKey", "name"}
_GIANT_BYTES = 2 * 1024 * 1024


def _valid_calls(trial: Trial, company: Company, person: Person) -> list[tuple[str, Body]]:
    """Return valid calls for a company. A part of them would change the person if they were applied."""
    version = trial.next_version()
    return [
        (calls.PROVISION, calls.provision_body(f"invalid-{person.id}", person)),
        (calls.SET_BUDGET, {"tenantEntityId": company.id, "budgetCents": 1}),
        (calls.TEAR_DOWN, {"tenantEntityId": company.id}),
        (calls.ADD, calls.add_body(company.id, person, "member", version)),
        (calls.CHANGE_ROLE, calls.change_role_body(company.id, person, "member", version)),
        (calls.REMOVE, calls.remove_body(company.id, person, version)),
    ]


def _paths(body: Body, *parents: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of each field that the protocol requires."""
    for name, value in body.items():
        if name not in _OPTIONAL:
            yield (*parents, name)
            if isinstance(value, dict):
                yield from _paths(value, *parents, name)


def _replace(body: Body, path: tuple[str, ...], **value: object) -> Body:
    """Return the body with another `value` at a path, or without the field if there is none."""
    changed = copy.deepcopy(body)
    parent = changed
    for name in path[:-1]:
        parent = parent[name]
    if value:
        parent[path[-1]] = value["value"]
    else:
        del parent[path[-1]]
    return changed


def _expect_refusal(trial: Trial, call: str, body: object, what: str) -> None:
    trial.call(call, body).expect(422, when=f"to {what}")


@check("C25", "A missing field is answered 422", provisioning_creates_company)
def missing_field_is_refused(trial: Trial) -> None:
    """Leave out each required field of each call."""
    company, person = trial.provision(), Person.create()
    for call, body in _valid_calls(trial, company, person):
        for path in _paths(body):
            _expect_refusal(trial, call, _replace(body, path), f"a body without {'.'.join(path)}")
        _expect_refusal(trial, call, {}, "an empty object")


@check("C25", "A wrong type is answered 422", provisioning_creates_company)
def wrong_type_is_refused(trial: Trial) -> None:
    """Put values of wrong types into each required field."""
    company, person = trial.provision(), Person.create()
    for call, body in _valid_calls(trial, company, person):
        for path in _paths(body):
            wrong: tuple[object, ...] = (None, [], {"a": 1})
            if path[-1] not in {"user", "adminUser"}:
                wrong += (True, 1.5) if path[-1] == "budgetCents" else (7, True)
            for value in wrong:
                what = f"{'.'.join(path)} with the value {value!r}"
                _expect_refusal(trial, call, _replace(body, path, value=value), what)
        _expect_refusal(trial, call, [body], "a list instead of an object")


@check("C25", "Values outside of the documented limits are answered 422", provisioning_creates_company)
def wrong_value_is_refused(trial: Trial) -> None:
    """Send unknown roles, empty ids, negative budgets and giant ids."""
    company, person = trial.provision(), Person.create()
    by_call = dict(_valid_calls(trial, company, person))
    wrong: list[tuple[str, tuple[str, ...], object]] = [
        *((calls.ADD, ("role",), role) for role in ("", "chief", "Owner", "none", "owner ")),
        (calls.CHANGE_ROLE, ("role",), "superuser"),
        (calls.ADD, ("user", "id"), ""),
        (calls.ADD, ("user", "id"), "x" * 5000),
        (calls.REMOVE, ("userId",), ""),
        (calls.PROVISION, ("tenantId",), ""),
        (calls.PROVISION, ("adminUser", "id"), ""),
        (calls.PROVISION, ("budgetCents",), -1),
        (calls.SET_BUDGET, ("budgetCents",), -1),
        (calls.SET_BUDGET, ("budgetCents",), "100"),
    ]
    if trial.offer.versions:
        wrong.append((calls.ADD, ("version",), "3"))
    for call, path, value in wrong:
        shown = repr(value) if len(repr(value)) < 20 else "a giant value"
        _expect_refusal(trial, call, _replace(by_call[call], path, value=value), f"{'.'.join(path)}: {shown}")


@check("C25", "A body that is not JSON is answered 400 or 422", provisioning_creates_company)
def no_json_is_refused(trial: Trial) -> None:
    """Send bodies that are no JSON, in no UTF-8, nested deeply, or empty."""
    company, person = trial.provision(), Person.create()
    bodies = {
        "half of a JSON object": b'{"companyId": ',
        "a form": b"companyId=1&role=owner",
        "bytes that are not UTF-8": b'{"companyId": "\xff\xfe"}',
        "lists nested 20,000 times": b"[" * 20_000,
        "an empty body": b"",
    }
    for call, _ in _valid_calls(trial, company, person):
        for what, body in bodies.items():
            trial.call(call, body).expect(400, 422, when=f"to {what}")


@check("C25", "A giant body is refused", provisioning_creates_company)
def giant_body_is_refused(trial: Trial) -> None:
    """Send 2 MB to a call."""
    company = trial.provision()
    person = Person.create("x" * _GIANT_BYTES)
    body = calls.add_body(company.id, person, "member", trial.next_version())
    trial.call(calls.ADD, body).expect(400, 413, 422, when="to a body of 2 MB")


@check("C25", "Refused calls change nothing", provisioning_creates_company)
def refused_call_changes_nothing(trial: Trial) -> None:
    """Send calls that are valid but for one field, and observe the company."""
    company, stranger = trial.provision(), Person.create()
    member = trial.add(company)
    version = trial.next_version()
    _expect_refusal(trial, calls.ADD, calls.add_body(company.id, stranger, "chief", version), "an unknown role")
    raised = calls.change_role_body(company.id, member, "chief", version)
    _expect_refusal(trial, calls.CHANGE_ROLE, raised, "an unknown role")
    trial.expect_member(company, stranger, None, "after a refused addition")
    trial.expect_member(company, member, "member", "after a refused change of role")
    trial.change_role(company, member, "admin")
    trial.expect_member(company, member, "admin", "after refused calls")


@check("C26", "Unknown fields are ignored", provisioning_creates_company)
def unknown_fields_are_ignored(trial: Trial) -> None:
    """Send valid calls with further fields."""
    owner, more = Person.create(), {"fieldOfALaterVersion": {"a": [1]}}
    body = {**calls.provision_body(f"kit-{owner.id}", owner), **more}
    body["adminUser"] = {**body["adminUser"], **more}
    answer = trial.call(calls.PROVISION, body).expect(201, when="to unknown fields")
    company = answer.parse().get("tenantEntityId")
    if not isinstance(company, str):
        raise Violation(f"{answer}, expected tenantEntityId.")
    person = Person.create()
    for call, valid in (
        (calls.SET_BUDGET, {"tenantEntityId": company, "budgetCents": 1}),
        (calls.ADD, calls.add_body(company, person, "member", trial.next_version())),
        (calls.CHANGE_ROLE, calls.change_role_body(company, person, "admin", trial.next_version())),
        (calls.REMOVE, calls.remove_body(company, person, trial.next_version())),
        (calls.TEAR_DOWN, {"tenantEntityId": company}),
    ):
        trial.call(call, {**valid, **more}).expect(200, when="to unknown fields")


CHECKS = (
    missing_field_is_refused,
    wrong_type_is_refused,
    wrong_value_is_refused,
    no_json_is_refused,
    giant_body_is_refused,
    refused_call_changes_nothing,
    unknown_fields_are_ignored,
)

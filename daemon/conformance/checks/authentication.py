"""Checks of the bearer secret: missing and wrong ones are refused before anything else, and change nothing."""

from __future__ import annotations

import base64

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks.starting import becomes_healthy
from daemon.conformance.outcomes import check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Trial


def _create_calls(trial: Trial) -> list[tuple[str, object]]:
    """Return each call that needs the secret, with a body that is valid for an unknown company."""
    person, company, version = Person.create(), "unknown-company", trial.next_version()
    return [
        (calls.PROVISION, calls.provision_body(f"refused-{person.id}", person)),
        (calls.SET_BUDGET, {"tenantEntityId": company, "budgetCents": 1}),
        (calls.TEAR_DOWN, {"tenantEntityId": company}),
        (calls.ADD, calls.add_body(company, person, "member", version)),
        (calls.CHANGE_ROLE, calls.change_role_body(company, person, "member", version)),
        (calls.REMOVE, calls.remove_body(company, person, version)),
    ]


@check("C22", "Calls without a secret are refused", becomes_healthy)
def missing_secret_is_refused(trial: Trial) -> None:
    """Send each call without the header."""
    for call, body in _create_calls(trial):
        trial.send(calls.create_request(call, body)).expect(401, when="without a secret")


@check("C22", "Calls with a wrong secret are refused", becomes_healthy)
def wrong_secret_is_refused(trial: Trial) -> None:
    """Send each call with secrets that resemble the right one."""
    secret = trial.secret
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    wrong = {
        "with a wrong secret": "Bearer wrong",
        "with an empty secret": "Bearer ",
        "with the beginning of the secret": f"Bearer {secret[:-1]}",
        "with an extended secret": f"Bearer {secret}x",
        "with the secret in capitals": f"Bearer {secret.upper()}",
        "with basic authentication": f"Basic {basic}",
    }
    # The kit's secrets are hexadecimal, so some have no letter.
    wrong = {when: header for when, header in wrong.items() if header != f"Bearer {secret}"}
    for call, body in _create_calls(trial):
        for when, header in wrong.items():
            trial.send(calls.create_request(call, body, authorization=header)).expect(401, when=when)


@check("C22", "The secret is checked before the body", becomes_healthy)
def secret_is_checked_first(trial: Trial) -> None:
    """Send invalid bodies without a secret."""
    invalid: tuple[object, ...] = ({}, b"not JSON")
    for call, _ in _create_calls(trial):
        for body in invalid:
            trial.send(calls.create_request(call, body)).expect(401, when="to an invalid body without a secret")


CHECKS = (missing_secret_is_refused, wrong_secret_is_refused, secret_is_checked_first)

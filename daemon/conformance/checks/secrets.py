"""Checks of the secret's variables: rotation with two valid secrets, and a bot without a secret."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance import readiness
from daemon.conformance.checks.lifecycle import data_survives_restart
from daemon.conformance.checks.provisioning import provisioning_creates_company
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Trial


@check("C24", "During a rotation both secrets are valid", data_survives_restart)
def both_secrets_are_valid(trial: Trial) -> None:
    """Restart with a new secret and the older one in the second variable."""
    older = trial.rotate_secret()
    readiness.restart(trial, trial.image, **trial.secrets(previous=older))
    company = trial.provision()
    variable = f"{trial.options.secret_variable}_PREVIOUS"
    body = calls.add_body(company.id, Person.create(), "member", trial.next_version())
    trial.call(calls.ADD, body, secret=older).expect(200, when=f"to the older secret in {variable}")
    trial.call(calls.ADD, body, secret="wrong").expect(401, when="to a wrong secret during a rotation")  # noqa: S106


@check("C24", "After a rotation the older secret is refused", both_secrets_are_valid)
def older_secret_is_refused(trial: Trial) -> None:
    """Restart with a newer secret only."""
    older = trial.rotate_secret()
    readiness.restart(trial, trial.image, **trial.secrets())
    company = trial.provision()
    body = calls.remove_body(company.id, company.owner, trial.next_version())
    trial.call(calls.REMOVE, body, secret=older).expect(401, when="to a secret that was replaced")


@check("C23", "Without a secret no call succeeds", provisioning_creates_company)
def no_secret_admits_no_call(trial: Trial) -> None:
    """Start without the variable, then with an empty one. A bot that does not start then is fine, too."""
    for environment in ({}, {trial.options.secret_variable: ""}):
        trial.volumes = trial.lab.create_volumes()
        trial.start(trial.image, **environment)
        try:
            readiness.wait_for_port(trial)
            readiness.wait_for_health(trial)
        except Violation:
            continue
        _expect_no_success(trial, "with an empty secret" if environment else "without a secret")


def _expect_no_success(trial: Trial, state: str) -> None:
    health = trial.send(calls.create_request(calls.HEALTH))
    if health.parse().get("provisioning") is not False:
        raise Violation(f"{health} by a bot {state}, expected provisioning to be false.")
    body = calls.provision_body("kit-no-secret", Person.create())
    for header in (None, "Bearer ", "Bearer", "Bearer None", "Bearer null", "Bearer undefined", "Bearer false"):
        answer = trial.send(calls.create_request(calls.PROVISION, body, authorization=header))
        if answer.status < 400:
            shown = "no Authorization header" if header is None else f"the header {header!r}"
            raise Violation(f"{answer} to {shown} by a bot {state}, expected a refusal.")


CHECKS = (both_secrets_are_valid, older_secret_is_refused, no_secret_admits_no_call)

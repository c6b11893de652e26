"""Checks of provisioning: its health, the answer, repetition, separate companies, budget."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.answers import read_text
from daemon.conformance.checks.starting import becomes_healthy
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Company, Trial


@check("C31", "Provision health answers without a secret", becomes_healthy)
def provision_health_is_open(trial: Trial) -> None:
    """Read provision health, and whether the bot is in hosted mode."""
    answer = trial.send(calls.create_request(calls.HEALTH)).expect(200)
    document = answer.parse()
    if not all(isinstance(document.get(name), bool) for name in ("ok", "provisioning", "managed")):
        raise Violation(f"{answer}, expected ok, provisioning and managed, each true or false.")
    if not document["ok"] or not document["provisioning"]:
        raise Violation(f"{answer}, expected ok and provisioning to be true while a secret is set.")
    trial.offer.hosted = document["managed"]


@check("C32", "Provisioning creates a company", becomes_healthy)
def provisioning_creates_company(trial: Trial) -> None:
    """Provision a company and check every field of the answer."""
    owner = Person.create()
    answer = trial.call(calls.PROVISION, calls.provision_body(f"kit-{owner.id}", owner)).expect(201)
    read_text(answer, "tenantEntityId")
    read_text(answer, "adminUserId")
    document = answer.parse()
    if not isinstance(document.get("agents"), list):
        raise Violation(f"{answer}, expected a list of agents.")
    if not isinstance(document.get("tenantSlug", ""), str | None):
        raise Violation(f"{answer}, expected tenantSlug to be a text.")


def _repeat(trial: Trial, company: Company) -> str:
    body = calls.provision_body(company.tenant, company.owner)
    return read_text(trial.call(calls.PROVISION, body).expect(201, when="to a repetition"), "tenantEntityId")


@check("C33", "Provisioning the same tenant again returns the same company", provisioning_creates_company)
def provisioning_is_idempotent(trial: Trial) -> None:
    """Provision a tenant twice."""
    company = trial.provision()
    again = _repeat(trial, company)
    if again != company.id:
        raise Violation(
            f"{calls.PROVISION} created a second company for the same tenant: {company.id}, then {again}."
        )


@check("C28", "A repeated call with the same idempotency key is answered alike", provisioning_creates_company)
def idempotency_key_is_accepted(trial: Trial) -> None:
    """Provision a tenant twice by the very same request."""
    owner = Person.create()
    body = calls.provision_body(f"kit-{owner.id}", owner)
    first, second = (trial.call(calls.PROVISION, body, key=owner.id).expect(201) for _ in range(2))
    for name in ("tenantEntityId", "adminUserId"):
        if read_text(first, name) != read_text(second, name):
            raise Violation(f"{second}, expected the same {name} as in the first answer.")


@check("C34", "Tenants get separate companies", provisioning_creates_company)
def tenants_are_separate(trial: Trial) -> None:
    """Provision two tenants."""
    first, second = trial.provision(), trial.provision()
    if first.id == second.id:
        raise Violation(f"{calls.PROVISION} returned the company {first.id} for two tenants.")


@check("C35", "A budget is set and confirmed", provisioning_creates_company)
def budget_is_confirmed(trial: Trial) -> None:
    """Set budgets, including zero."""
    company = trial.provision()
    for cents in (12_345, 0):
        body = {"tenantEntityId": company.id, "budgetCents": cents, "perAgentCents": 100}
        answer = trial.call(calls.SET_BUDGET, body).expect(200)
        expected = {"ok": True, "tenantEntityId": company.id, "budgetCents": cents}
        if not expected.items() <= answer.parse().items():
            raise Violation(f"{answer}, expected ok, the company and {cents} cents.")


@check("C35", "The budget of an unknown company is answered 404", provisioning_creates_company)
def unknown_budget_is_refused(trial: Trial) -> None:
    """Set the budget of a company that does not exist."""
    trial.call(calls.SET_BUDGET, {"tenantEntityId": "unknown-company", "budgetCents": 1}).expect(404)


CHECKS = (
    provision_health_is_open,
    provisioning_creates_company,
    provisioning_is_idempotent,
    idempotency_key_is_accepted,
    tenants_are_separate,
    budget_is_confirmed,
    unknown_budget_is_refused,
)

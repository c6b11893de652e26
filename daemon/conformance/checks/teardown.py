"""Checks of teardown: the company and its members are gone, and the tenant can come back."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.answers import read_text
from daemon.conformance.checks.provisioning import provisioning_creates_company
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Company, Trial


def _tear_down(trial: Trial, company: Company) -> None:
    answer = trial.call(calls.TEAR_DOWN, {"tenantEntityId": company.id}).expect(200)
    if not {"ok": True, "tenantEntityId": company.id}.items() <= answer.parse().items():
        raise Violation(f"{answer}, expected ok and the company.")


@check("C36", "A company that was torn down is unknown", provisioning_creates_company)
def torn_down_company_is_unknown(trial: Trial) -> None:
    """Tear a company down and call it."""
    company = trial.provision()
    member = trial.add(company)
    _tear_down(trial, company)
    when = "for a company that was torn down"
    trial.call(calls.TEAR_DOWN, {"tenantEntityId": company.id}).expect(404, when=when)
    trial.call(calls.SET_BUDGET, {"tenantEntityId": company.id, "budgetCents": 1}).expect(404, when=when)
    trial.call(calls.ADD, calls.add_body(company.id, member, "member", trial.next_version())).expect(404, when=when)
    trial.call(calls.REMOVE, calls.remove_body(company.id, member, trial.next_version())).expect(404, when=when)
    if trial.offer.hosted:
        for person in (company.owner, member):
            trial.expect_entry(person, admitted=False, when="after the teardown of the only company")


@check("C36", "A teardown leaves other companies alone", provisioning_creates_company)
def other_companies_stay(trial: Trial) -> None:
    """Tear one of two companies down."""
    company, other = trial.provision(), trial.provision()
    _tear_down(trial, company)
    trial.expect_member(other, other.owner, "owner", "after the teardown of another company")


@check("C36", "A tenant that comes back gets a company without its former members", torn_down_company_is_unknown)
def returning_tenant_has_no_former_members(trial: Trial) -> None:
    """Provision a tenant, tear it down, and provision it again with another owner."""
    company = trial.provision()
    member = trial.add(company)
    _tear_down(trial, company)
    owner = Person.create()
    answer = trial.call(calls.PROVISION, calls.provision_body(company.tenant, owner)).expect(201)
    again = Company(read_text(answer, "tenantEntityId"), company.tenant, owner)
    trial.expect_member(again, owner, "owner", "when the tenant came back")
    for person in (company.owner, member):
        trial.expect_member(again, person, None, "when the tenant came back")


CHECKS = (torn_down_company_is_unknown, other_companies_stay, returning_tenant_has_no_former_members)

"""Data that must survive restarts and updates: leave it in a bot, and look for it later. Used by checks."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.answers import read_text
from daemon.conformance.outcomes import Violation
from daemon.conformance.trial import KeptCompany, Trial


def leave_data(trial: Trial) -> KeptCompany:
    """Provision a company with an owner, an admin, a member with an odd name, and a person who was removed.

    Raises:
        Violation: the bot refused a call.
    """
    company = trial.provision()
    admin = trial.add(company, role="admin")
    member = trial.add(company, calls.Person.create('Zoë "李" 100%'))
    removed = trial.add(company)
    trial.remove(company, removed)
    return KeptCompany(company, {company.owner: "owner", admin: "admin", member: "member", removed: None})


def expect_kept(trial: Trial, kept: KeptCompany, when: str) -> None:
    """Check that a company and its members are as they were left.

    Args:
        trial: the trial, with a bot that should have the data.
        kept: the company.
        when: what happened since, for messages.

    Raises:
        Violation: something is missing or different.
    """
    body = calls.provision_body(kept.company.tenant, kept.company.owner)
    found = read_text(trial.call(calls.PROVISION, body).expect(201, when=when), "tenantEntityId")
    if found != kept.company.id:
        raise Violation(f"The data is lost {when}: the tenant has the company {found} instead of {kept.company.id}.")
    for person, role in kept.roles.items():
        trial.expect_member(kept.company, person, role, when)

"""Checks of instance admins: exactly the owners and admins of a company. Observed in the list of members."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks.member_list import members_are_listed
from daemon.conformance.outcomes import NotOffered, Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Company, Trial


def _expect(trial: Trial, company: Company, person: Person, *, admin: bool, when: str) -> None:
    entry = trial.members(company).get(person.id)
    if entry is None:
        raise Violation(f"{calls.LIST} does not show a member {when}.")
    found = entry.get("instanceAdmin")
    if found is None:
        raise NotOffered("The list shows no instanceAdmin, so rights that outlive a role cannot be noticed.")
    if found is not admin:
        state = "is still" if found else "is not"
        raise Violation(f"{calls.LIST} shows that a person {state} instance admin {when}.")


@check("C41", "Owners and admins are instance admins, members are not", members_are_listed)
def roles_decide(trial: Trial) -> None:
    """Compare all roles."""
    company = trial.provision()
    _expect(trial, company, company.owner, admin=True, when="as owner")
    _expect(trial, company, trial.add(company, role="admin"), admin=True, when="as admin")
    _expect(trial, company, trial.add(company), admin=False, when="as member")


@check("C41", "A lowered role ends instance admin", roles_decide)
def lowered_role_demotes(trial: Trial) -> None:
    """Lower an admin and an owner to member, and raise them again."""
    company = trial.provision()
    for role in ("admin", "owner"):
        person = trial.add(company, role=role)
        trial.change_role(company, person, "member")
        _expect(trial, company, person, admin=False, when=f"after the role {role} was lowered to member")
        trial.change_role(company, person, role)
        _expect(trial, company, person, admin=True, when=f"after the role was raised to {role}")


@check("C41", "The owner of A who is a member of B and is removed from A loses instance admin", roles_decide)
def removal_demotes_member_of_another_company(trial: Trial) -> None:
    """Remove the owner of one company, who is a member of another."""
    company, other = trial.provision(), trial.provision()
    trial.add(company, role="owner")
    trial.add(other, company.owner)
    _expect(trial, other, company.owner, admin=True, when="as owner of another company")
    trial.remove(company, company.owner)
    _expect(trial, other, company.owner, admin=False, when="after the removal from the only company that was owned")
    trial.expect_member(other, company.owner, "member", "after the removal from another company")


@check("C41", "The owner of A and B who is removed from A keeps instance admin", roles_decide)
def removal_keeps_owner_of_another_company(trial: Trial) -> None:
    """Remove the owner of one company, who is an admin of another."""
    company, other = trial.provision(), trial.provision()
    trial.add(company, role="owner")
    trial.add(other, company.owner, role="admin")
    trial.remove(company, company.owner)
    _expect(trial, other, company.owner, admin=True, when="as admin of another company")


@check("C41", "A teardown ends instance admin of those who own no other company", roles_decide)
def teardown_demotes(trial: Trial) -> None:
    """Tear the company down whose owner is a member of another one."""
    company, other = trial.provision(), trial.provision()
    trial.add(other, company.owner)
    trial.call(calls.TEAR_DOWN, {"tenantEntityId": company.id}).expect(200)
    _expect(trial, other, company.owner, admin=False, when="after the teardown of the only company that was owned")


@check("C41", "A person who returns as a member is not instance admin", roles_decide)
def returning_member_is_demoted(trial: Trial) -> None:
    """Remove an admin and add the person again as a member."""
    company = trial.provision()
    person = trial.add(company, role="admin")
    trial.remove(company, person)
    trial.add(company, person)
    _expect(trial, company, person, admin=False, when="after the return as a member")


CHECKS = (
    roles_decide,
    lowered_role_demotes,
    removal_demotes_member_of_another_company,
    removal_keeps_owner_of_another_company,
    teardown_demotes,
    returning_member_is_demoted,
)

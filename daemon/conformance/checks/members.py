"""Checks of member calls: add, change of role, removal, repetition, unknown companies and persons."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks.provisioning import provisioning_creates_company
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Trial


@check("C37", "A person who is added becomes a member", provisioning_creates_company)
def added_person_is_member(trial: Trial) -> None:
    """Add a person with each role."""
    company = trial.provision()
    for role in ("member", "admin", "owner"):
        person = Person.create()
        trial.expect_member(company, person, None, "before the addition")
        answer = trial.call(calls.ADD, calls.add_body(company.id, person, role, trial.next_version())).expect(200)
        if answer.parse().get("ok") is not True:
            raise Violation(f'{answer}, expected {{"ok": true}}.')
        trial.expect_member(company, person, role, "after the addition")


@check("C28", "Adding a person again changes nothing", added_person_is_member)
def addition_is_repeatable(trial: Trial) -> None:
    """Repeat an addition with the same and with another idempotency key."""
    company, person = trial.provision(), Person.create()
    body = calls.add_body(company.id, person, "admin", trial.next_version())
    for key in ("first", "first", "second"):
        trial.call(calls.ADD, body, key=f"{person.id}-{key}").expect(200, when="to a repetition")
    trial.expect_member(company, person, "admin", "after a repeated addition")


@check("C37", "Adding a member sets name and role", added_person_is_member)
def addition_updates_member(trial: Trial) -> None:
    """Add a member with another name, then with another role."""
    company = trial.provision()
    person = trial.add(company, role="admin")
    renamed = Person(person.id, f"new-{person.email}", "Renamed Ødegård")
    trial.add(company, renamed, role="admin")
    trial.expect_member(company, renamed, "admin", "after an addition with another name")
    trial.add(company, renamed, role="member")
    trial.expect_member(company, renamed, "member", "after an addition with another role")


@check("C38", "A change of role is applied", added_person_is_member)
def role_is_changed(trial: Trial) -> None:
    """Give a member each role, twice."""
    company = trial.provision()
    person = trial.add(company)
    for role in ("admin", "admin", "owner", "member"):
        trial.change_role(company, person, role)
        trial.expect_member(company, person, role, "after a change of role")


@check("C38", "A change of role of a person who is not a member is answered 404", provisioning_creates_company)
def role_of_stranger_is_refused(trial: Trial) -> None:
    """Change the role of an unknown person, and of one who was removed."""
    company, stranger = trial.provision(), Person.create()
    body = calls.change_role_body(company.id, stranger, "admin", trial.next_version())
    trial.call(calls.CHANGE_ROLE, body).expect(404, when="for an unknown person")
    former = trial.add(company)
    trial.remove(company, former)
    body = calls.change_role_body(company.id, former, "admin", trial.next_version())
    trial.call(calls.CHANGE_ROLE, body).expect(404, when="for a person who was removed")
    trial.expect_member(company, former, None, "after a refused change of role")


@check("C17", "A person who is removed is refused at once", added_person_is_member)
def removed_person_is_refused(trial: Trial) -> None:
    """Remove a member, who entered before, and an owner."""
    company = trial.provision()
    second_owner = trial.add(company, role="owner")
    for person in (trial.add(company), second_owner):
        if trial.offer.hosted:
            trial.expect_entry(person, admitted=True, when="before the removal")
        trial.remove(company, person)
        trial.expect_member(company, person, None, "after the removal")
    trial.expect_member(company, company.owner, "owner", "after the removal of others")


@check("C39", "Removing a person who is not a member succeeds", provisioning_creates_company)
def removal_is_repeatable(trial: Trial) -> None:
    """Remove a person twice, and an unknown person."""
    company = trial.provision()
    person = trial.add(company)
    body = calls.remove_body(company.id, person, trial.next_version())
    for _ in range(2):
        trial.call(calls.REMOVE, body).expect(200, when="to a repeated removal")
    trial.call(calls.REMOVE, {**body, "version": trial.next_version()}).expect(200, when="for a former member")
    stranger = calls.remove_body(company.id, Person.create(), trial.next_version())
    trial.call(calls.REMOVE, stranger).expect(200, when="for an unknown person")


@check("C37", "A person who was removed can be added again", removed_person_is_refused)
def removed_person_can_return(trial: Trial) -> None:
    """Remove an admin and add the person again as a member."""
    company = trial.provision()
    person = trial.add(company, role="admin")
    trial.remove(company, person)
    trial.add(company, person)
    trial.expect_member(company, person, "member", "after the return")


@check("C33", "Provisioning again does not change members", removed_person_is_refused)
def provisioning_again_keeps_members(trial: Trial) -> None:
    """Remove the first owner, and provision the tenant again with that owner."""
    company = trial.provision()
    successor = trial.add(company, role="owner")
    trial.remove(company, company.owner)
    trial.call(calls.PROVISION, calls.provision_body(company.tenant, company.owner)).expect(201)
    trial.expect_member(company, successor, "owner", "after provisioning again")
    trial.expect_member(company, company.owner, None, "after provisioning again")


@check("C40", "Member calls for an unknown company are answered 404", provisioning_creates_company)
def unknown_company_is_refused(trial: Trial) -> None:
    """Call with the id of a company that does not exist."""
    person, company = Person.create(), "unknown-company"
    trial.call(calls.ADD, calls.add_body(company, person, "member", trial.next_version())).expect(404)
    trial.call(calls.CHANGE_ROLE, calls.change_role_body(company, person, "member", trial.next_version())).expect(404)
    trial.call(calls.REMOVE, calls.remove_body(company, person, trial.next_version())).expect(404)
    if trial.offer.hosted:
        trial.expect_entry(person, admitted=False, when="after an addition to an unknown company")


@check("C22", "A member call with a wrong secret changes nothing", added_person_is_member)
def wrong_secret_changes_nothing(trial: Trial) -> None:
    """Remove a member and add a person, both with a wrong secret."""
    company, stranger = trial.provision(), Person.create()
    member = trial.add(company)
    removal = calls.remove_body(company.id, member, trial.next_version())
    trial.call(calls.REMOVE, removal, secret="wrong").expect(401)  # noqa: S106 - it is not the secret
    addition = calls.add_body(company.id, stranger, "owner", trial.next_version())
    trial.call(calls.ADD, addition, secret="wrong").expect(401)  # noqa: S106
    trial.expect_member(company, member, "member", "after a removal with a wrong secret")
    trial.expect_member(company, stranger, None, "after an addition with a wrong secret")


CHECKS = (
    added_person_is_member,
    addition_is_repeatable,
    addition_updates_member,
    role_is_changed,
    role_of_stranger_is_refused,
    removed_person_is_refused,
    removal_is_repeatable,
    removed_person_can_return,
    provisioning_again_keeps_members,
    unknown_company_is_refused,
    wrong_secret_changes_nothing,
)

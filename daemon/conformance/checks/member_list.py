"""Checks of the list of members, which a bot should offer: shape, roles, versions, grants."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.answers import read_members
from daemon.conformance.checks.provisioning import provisioning_creates_company
from daemon.conformance.outcomes import NotOffered, Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Trial

MEMBER_GRANTS = frozenset({"tasks:assign"})
ADMIN_GRANTS = MEMBER_GRANTS | {
    "agents:create",
    "agents:update",
    "agents:delete",
    "costs:view",
    "users:invite",
    "users:manage_permissions",
    "joins:approve",
}
GRANTS = {"owner": ADMIN_GRANTS | {"company:delete"}, "admin": ADMIN_GRANTS, "member": MEMBER_GRANTS}
"""The grants of each role in a bot."""


@check("C42", "The members of a company are listed", provisioning_creates_company)
def members_are_listed(trial: Trial) -> None:
    """List the members of a company, and note whether the bot offers the list."""
    company = trial.provision()
    answer = trial.call(calls.list_members(company.id))
    if answer.status == 404:
        raise NotOffered("The bot does not list members, so the platform cannot notice and repair differences.")
    added = {role: trial.add(company, role=role) for role in ("admin", "member")}
    expected = {company.owner.id: "owner", **{person.id: role for role, person in added.items()}}
    found = read_members(trial.call(calls.list_members(company.id)).expect(200))
    roles = {user: entry["role"] for user, entry in found.items()}
    if roles != expected:
        raise Violation(f"{calls.LIST} shows {roles}, expected {expected}.")
    trial.offer.members = True


@check("C42", "The members of an unknown company are not listed", members_are_listed)
def unknown_company_is_not_listed(trial: Trial) -> None:
    """List the members of a company that does not exist."""
    trial.call(calls.list_members("unknown-company")).expect(404)


@check("C34", "The list shows no members of other companies", members_are_listed)
def list_is_of_one_company(trial: Trial) -> None:
    """Add a person to one of two companies."""
    company, other = trial.provision(), trial.provision()
    person = trial.add(company)
    if person.id in trial.members(other):
        raise Violation(f"{calls.LIST} shows a member of another company.")


@check("C42", "The list shows the version of each member", members_are_listed)
def list_shows_versions(trial: Trial) -> None:
    """Add a person with a version."""
    company, person = trial.provision(), Person.create()
    body = calls.add_body(company.id, person, "member", trial.next_version())
    trial.call(calls.ADD, body).expect(200)
    version = trial.members(company)[person.id].get("version")
    if version is None:
        raise NotOffered("The list shows no versions.")
    if version != body["version"]:
        raise Violation(f"{calls.LIST} shows the version {version} after a call with {body['version']}.")


@check("C42", "Each role has its grants", members_are_listed)
def roles_have_their_grants(trial: Trial) -> None:
    """Compare the grants of an owner, an admin and a member, also after a change of role."""
    company = trial.provision()
    people = {role: trial.add(company, role=role) for role in ("member", "admin")}
    expected = {company.owner.id: "owner", **{person.id: role for role, person in people.items()}}
    _compare_grants(trial.members(company), expected)
    trial.change_role(company, people["admin"], "member")
    trial.change_role(company, people["member"], "admin")
    expected |= {people["admin"].id: "member", people["member"].id: "admin"}
    _compare_grants(trial.members(company), expected)


def _compare_grants(members: dict[str, dict[str, object]], roles: dict[str, str]) -> None:
    for user, role in roles.items():
        grants = members.get(user, {}).get("grants")
        if grants is None:
            raise NotOffered("The list shows no grants, so the platform cannot notice wrong ones.")
        if not isinstance(grants, list) or not all(isinstance(grant, str) for grant in grants):
            raise Violation(f"{calls.LIST} shows grants that are not a list of texts.")
        if missing := sorted(GRANTS[role] - set(grants)):
            raise Violation(f"{calls.LIST} shows that the {role} lacks {', '.join(missing)}.")
        if excessive := sorted(set(grants) - GRANTS[role]):
            raise Violation(f"{calls.LIST} shows that the {role} has {', '.join(excessive)}, which the role lacks.")


CHECKS = (
    members_are_listed,
    unknown_company_is_not_listed,
    list_is_of_one_company,
    list_shows_versions,
    roles_have_their_grants,
)

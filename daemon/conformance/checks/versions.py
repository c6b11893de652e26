"""Checks of versions: a bot should refuse a call that is older than one it has applied, also after a removal."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks.members import added_person_is_member
from daemon.conformance.exchange import Answer
from daemon.conformance.outcomes import NotOffered, Violation, check
from daemon.conformance.trial import Trial


def _expect_stale(answer: Answer, when: str) -> None:
    answer.expect(409, when=when)
    if answer.parse().get("error") != "stale":
        raise Violation(f'{answer}, expected {{"error": "stale"}}.')


@check("C29", "An older version is refused", added_person_is_member)
def older_version_is_refused(trial: Trial) -> None:
    """Send a change of role with a lower version than the one before."""
    company = trial.provision()
    old = trial.next_version()
    person = trial.add(company, role="admin")
    answer = trial.call(calls.CHANGE_ROLE, calls.change_role_body(company.id, person, "member", old))
    if answer.status == 200 and not trial.offer.versions:
        raise NotOffered("The bot applies older versions, so a delayed call can undo a newer one.")
    _expect_stale(answer, "to an older version")
    _expect_stale(
        trial.call(calls.ADD, calls.add_body(company.id, person, "member", old)),
        "to an addition with an older version",
    )
    _expect_stale(
        trial.call(calls.REMOVE, calls.remove_body(company.id, person, old)), "to a removal with an older version"
    )
    trial.expect_member(company, person, "admin", "after calls with older versions")
    trial.offer.versions = True


@check("C30", "A delayed call does not bring back a person who was removed", older_version_is_refused)
def removal_leaves_a_tombstone(trial: Trial) -> None:
    """Remove a member, then send the delayed addition."""
    company = trial.provision()
    old = trial.next_version()
    person = trial.add(company)
    trial.remove(company, person)
    answer = trial.call(calls.ADD, calls.add_body(company.id, person, "owner", old))
    _expect_stale(answer, "to an addition that is older than the removal")
    trial.expect_member(company, person, None, "after an addition that is older than the removal")


@check("C30", "A removal that arrives before the addition wins", older_version_is_refused)
def removal_of_stranger_leaves_a_tombstone(trial: Trial) -> None:
    """Remove an unknown person, then send the older addition."""
    company = trial.provision()
    person = calls.Person.create()
    old = trial.next_version()
    trial.remove(company, person)
    answer = trial.call(calls.ADD, calls.add_body(company.id, person, "member", old))
    _expect_stale(answer, "to an addition that is older than the removal")
    trial.expect_member(company, person, None, "after an addition that is older than the removal")


@check("C29", "The same version again is a repetition", older_version_is_refused)
def same_version_is_a_repetition(trial: Trial) -> None:
    """Send each member call twice with the same version."""
    company = trial.provision()
    person = calls.Person.create()
    for call, body in (
        (calls.ADD, calls.add_body(company.id, person, "member", trial.next_version())),
        (calls.CHANGE_ROLE, calls.change_role_body(company.id, person, "admin", trial.next_version())),
        (calls.REMOVE, calls.remove_body(company.id, person, trial.next_version())),
    ):
        for _ in range(2):
            trial.call(call, body).expect(200, when="to the same version again")


CHECKS = (
    older_version_is_refused,
    removal_leaves_a_tombstone,
    removal_of_stranger_leaves_a_tombstone,
    same_version_is_a_repetition,
)

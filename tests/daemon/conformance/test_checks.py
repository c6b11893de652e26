"""Tests of the checks with bots in processes: the reference bot passes, and each fault is found and named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.conformance.checks import ALL_CHECKS
from daemon.conformance.options import BotOptions
from daemon.conformance.outcomes import Check, CheckResult, Outcome
from daemon.conformance.runner import run_checks
from daemon.conformance.trial import Trial
from tests.daemon.conformance.broken_bot import FAULTS, GOOD
from tests.daemon.conformance.local_lab import LocalLab

pytestmark = pytest.mark.slow

OBSERVING = ("provisioning.provision_health_is_open", "member_list.members_are_listed")
"""Checks that find out what later checks can observe."""

# fault: (check that finds it, words of the reason)
VIOLATIONS = {
    "healthy_while_migrating": ("starting.is_ready_when_healthy", 'Health was "ok" before the bot could serve'),
    "health_flickers": ("starting.stays_healthy", "status 'starting' instead of 'ok'"),
    "exits_at_start": ("starting.listens_on_its_port", "exited with status 1.\nIts log ends with:\nno value for"),
    "never_stops": ("lifecycle.stops_in_time", "was killed"),
    "stops_with_an_error": ("lifecycle.stops_in_time", "exited with status 3 after its stop signal"),
    "data_outside_of_volumes": ("lifecycle.data_survives_restart", "The data is lost after a restart"),
    "data_saved_at_exit": ("lifecycle.data_survives_kill", "The data is lost after a kill"),
    "starts_twice_only": ("lifecycle.data_survives_restart", "another bot is running: /data/bot.pid exists"),
    "any_secret": ("authentication.missing_secret_is_refused", "without a secret, expected 401"),
    "any_secret_with_the_right_beginning": (
        "authentication.wrong_secret_is_refused",
        "with an empty secret, expected 401",
    ),
    "shape_before_secret": ("authentication.secret_is_checked_first", "invalid body without a secret, expected 401"),
    "one_secret_only": ("secrets.both_secrets_are_valid", "the older secret in PROVISION_SECRET_PREVIOUS"),
    "remembers_old_secrets": ("secrets.older_secret_is_refused", "to a secret that was replaced, expected 401"),
    "open_without_secret": ("secrets.no_secret_admits_no_call", "the header 'Bearer ' by a bot without a secret"),
    "admits_everyone": ("visitors.no_identity_is_refused", "without identity headers, expected 401 or 403"),
    "admits_every_id": ("visitors.stranger_is_refused", "who is not a member and whom it does not know"),
    "fails_at_odd_names": ("visitors.odd_names_are_admitted", "GET / got no complete answer"),
    "needs_an_email": ("visitors.id_header_suffices", "without email and name headers, expected the page"),
    "caches_visitors": ("members.removed_person_is_refused", "not a member after the removal, expected 401 or 403"),
    "not_hosted": ("visitors.hosted_mode_is_on", "--env HOSTED_MODE=1"),
    "second_company_for_a_tenant": ("provisioning.provisioning_is_idempotent", "created a second company"),
    "provisioning_brings_the_owner_back": (
        "members.provisioning_again_keeps_members",
        "not a member after provisioning again",
    ),
    "one_company_for_all": ("provisioning.tenants_are_separate", "for two tenants"),
    "teardown_keeps_the_company": ("teardown.torn_down_company_is_unknown", "for a company that was torn down"),
    "budget_of_any_company": ("provisioning.unknown_budget_is_refused", "expected 404"),
    "unknown_roles_are_members": ("shapes.wrong_value_is_refused", "role: '', expected 422"),
    "unknown_fields_are_refused": ("shapes.unknown_fields_are_ignored", "to unknown fields, expected 201"),
    "fails_at_nested_json": ("shapes.no_json_is_refused", "got no complete answer"),
    "addition_keeps_the_role": (
        "members.addition_updates_member",
        "the role admin after an addition with another role",
    ),
    "removal_of_a_stranger_fails": ("members.removal_is_repeatable", "to a repeated removal, expected 200"),
    "no_tombstones": ("versions.removal_leaves_a_tombstone", "older than the removal, expected 409"),
    "demoted_people_stay_instance_admin": (
        "instance_admins.removal_demotes_member_of_another_company",
        "still instance admin after the removal from the only company that was owned",
    ),
    "admins_may_delete_the_company": ("member_list.roles_have_their_grants", "the admin has company:delete"),
    "hangs_at_provision_health": ("starting.is_ready_when_healthy", "got no complete answer within 0.5 s"),
    "drips": ("members.added_person_is_member", "got no complete answer within 0.5 s"),
    "answers_without_an_end": ("members.added_person_is_member", "answered with more than 64 KB"),
    "lies_about_the_length": ("members.added_person_is_member", "88 more expected"),
    "redirects": ("members.added_person_is_member", "answered 302, expected 200"),
    "answers_with_html": ("members.added_person_is_member", "(an HTML page), expected a JSON object"),
}
NOT_OFFERED = {
    "no_list": {"member_list.members_are_listed"},
    "no_versions": {"member_list.list_shows_versions", "versions.older_version_is_refused"},
    "no_rights_in_the_list": {"member_list.roles_have_their_grants", "instance_admins.roles_decide"},
}
SLOW = {"drips", "hangs_at_provision_health"}
"""Faults that show by exceeding the time limit."""
UPGRADES = {"earlier_release", "loses_data_of_earlier_release"}
"""Faults that need an earlier image."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LocalLab]:
    """A lab whose bots end with the test."""
    lab = LocalLab(tmp_path)
    yield lab
    lab.close()


def start_trial(lab: LocalLab, image: str, against: str | None = None) -> Trial:
    """Return the trial of a fault, with short limits that a local bot can keep."""
    options = BotOptions(
        environment={"HOSTED_MODE": "1"},
        start_seconds=30,
        answer_seconds=0.5 if image in SLOW else 20,
        watch_seconds=0.3,
    )
    return Trial(lab, image, options, against)


def find_needed(name: str) -> list[Check]:
    """Return a check and all that it needs, in their order."""
    needed: set[Check] = set()

    def collect(check: Check) -> None:
        needed.add(check)
        for other in check.needs:
            collect(other)

    for check in ALL_CHECKS:
        if check.name in {name, *OBSERVING}:
            collect(check)
    return [check for check in ALL_CHECKS if check in needed]


def outcomes(results: list[CheckResult]) -> dict[Outcome, set[str]]:
    """Return the names of the checks by outcome."""
    return {outcome: {found.check.name for found in results if found.outcome is outcome} for outcome in Outcome}


def test_reference_bot_passes_everything(lab: LocalLab) -> None:
    found = outcomes(list(run_checks(ALL_CHECKS, start_trial(lab, GOOD, against=GOOD))))
    no_image = {"image.changelog_is_valid", "image.declared_volumes_are_used"}
    assert (found[Outcome.FAILED], found[Outcome.NOT_OFFERED], found[Outcome.SKIPPED]) == (set(), set(), no_image)
    assert len(found[Outcome.PASSED]) == len(ALL_CHECKS) - len(no_image)


def test_every_fault_has_a_test() -> None:
    assert {GOOD, *VIOLATIONS, *NOT_OFFERED, *UPGRADES} == set(FAULTS)


@pytest.mark.parametrize("fault", VIOLATIONS)
def test_fault_is_found_and_named(lab: LocalLab, fault: str) -> None:
    name, words = VIOLATIONS[fault]
    # Some faults also fail checks that this one needs; then it must be the check itself that finds them.
    checks = [
        Check(check.clause, check.title, check.run) if check.name == name else check for check in find_needed(name)
    ]
    results = list(run_checks(checks, start_trial(lab, fault)))
    found = next(result for result in results if result.check.name == name)
    assert found.outcome is Outcome.FAILED, found.reason
    assert words in found.reason


@pytest.mark.parametrize("fault", NOT_OFFERED)
def test_bot_without_recommendations_conforms(lab: LocalLab, fault: str) -> None:
    found = outcomes(list(run_checks(ALL_CHECKS, start_trial(lab, fault))))
    assert (found[Outcome.FAILED], found[Outcome.NOT_OFFERED]) == (set(), NOT_OFFERED[fault])


def test_lost_data_of_an_earlier_release_is_found(lab: LocalLab) -> None:
    trial = start_trial(lab, "loses_data_of_earlier_release", against="earlier_release")
    results = list(run_checks(find_needed("upgrade.data_is_migrated"), trial))
    assert outcomes(results)[Outcome.FAILED] == {"upgrade.data_is_migrated"}
    assert "The data is lost after the update" in results[-1].reason


def test_earlier_release_that_cannot_run_again_is_found(lab: LocalLab) -> None:
    trial = start_trial(lab, GOOD, against="starts_twice_only")
    results = list(run_checks(find_needed("upgrade.earlier_image_runs_again"), trial))
    assert outcomes(results)[Outcome.FAILED] == {"upgrade.earlier_image_runs_again"}
    assert "/data/bot.pid exists" in results[-1].reason


@pytest.mark.parametrize("fault", sorted(SLOW))
def test_bot_that_answers_nothing_ends_the_run_early(lab: LocalLab, fault: str) -> None:
    results = list(run_checks(ALL_CHECKS, start_trial(lab, fault)))
    assert len(results) == len(ALL_CHECKS)
    found = outcomes(results)
    assert 1 <= len(found[Outcome.FAILED]) <= 5
    assert len(found[Outcome.SKIPPED]) > len(ALL_CHECKS) / 2


def test_upgrade_is_skipped_without_an_earlier_image(lab: LocalLab) -> None:
    (result,) = run_checks(
        [Check(check.clause, check.title, check.run) for check in ALL_CHECKS if "earlier_image_stores" in check.name],
        start_trial(lab, GOOD),
    )
    assert (result.outcome, result.reason) == (Outcome.SKIPPED, "Name an earlier image with --against.")

"""Checks of the update from an earlier image, and of the rollback to it."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance import readiness
from daemon.conformance.checks.provisioning import provisioning_creates_company
from daemon.conformance.kept_data import expect_kept, leave_data
from daemon.conformance.outcomes import Skipped, check
from daemon.conformance.trial import Company, KeptCompany, Offer, Trial


def _earlier_image(trial: Trial) -> str:
    if trial.earlier_image is None:
        raise Skipped("Name an earlier image with --against.")
    return trial.earlier_image


def _kept(trial: Trial) -> KeptCompany:
    if trial.kept is None:
        raise Skipped("The earlier image stored no data.")
    return trial.kept


def _observe_offer(trial: Trial, company: Company) -> None:
    """Find out what can be observed, because the two images may differ in it."""
    managed = trial.send(calls.create_request(calls.HEALTH)).parse().get("managed") is True
    members = trial.call(calls.list_members(company.id)).status == 200
    trial.offer = Offer(hosted=managed, members=members, versions=trial.offer.versions)


@check("C9", "The earlier image starts and stores data", provisioning_creates_company)
def earlier_image_stores_data(trial: Trial) -> None:
    """Start the earlier image on empty volumes, let it store data, and stop it."""
    image = _earlier_image(trial)
    trial.volumes = trial.lab.create_volumes()
    readiness.restart(trial, image, **trial.secrets())
    kept = leave_data(trial)
    _observe_offer(trial, kept.company)
    expect_kept(trial, kept, "in the earlier image")
    trial.kept = kept
    trial.stop()


@check("C9", "The image migrates the data of the earlier image", earlier_image_stores_data)
def data_is_migrated(trial: Trial) -> None:
    """Start the image on a copy of the data, and let it change members."""
    kept, original = _kept(trial), trial.volumes
    trial.volumes = trial.lab.copy_volumes(original, _earlier_image(trial))
    try:
        readiness.restart(trial, trial.image, **trial.secrets())
        readiness.require_lasting_health(trial)
        _observe_offer(trial, kept.company)
        expect_kept(trial, kept, "after the update")
        newcomer = trial.add(kept.company)
        trial.expect_member(kept.company, newcomer, "member", "after an addition that follows the update")
    finally:
        trial.end()
        trial.volumes = original


@check("C10", "The earlier image runs again on its data after a rollback", earlier_image_stores_data)
def earlier_image_runs_again(trial: Trial) -> None:
    """Start the earlier image on its data again, and send a removal that happened since, as the platform does."""
    kept = _kept(trial)
    readiness.restart(trial, _earlier_image(trial), **trial.secrets())
    _observe_offer(trial, kept.company)
    expect_kept(trial, kept, "after the rollback")
    member = next(person for person, role in kept.roles.items() if role == "member")
    trial.remove(kept.company, member)
    trial.expect_member(kept.company, member, None, "after a removal that is sent again")


CHECKS = (earlier_image_stores_data, data_is_migrated, earlier_image_runs_again)

"""The steps of an update in words, and the phases to which they belong."""

from portal.models import Step
from portal.rules import update_phases


def test_every_step_belongs_to_one_phase_and_has_a_place() -> None:
    grouped = sorted(step for steps in update_phases.PHASES.values() for step in steps)
    assert grouped == sorted(update_phases.STEPS)
    assert [*update_phases.STEPS, Step.ROLLBACK] == list(Step), "the order of the model"
    assert update_phases.find_phase(Step.ROLLBACK) == "Rolling back"
    assert update_phases.find_phase(Step.BASE) == update_phases.find_phase(Step.SNAPSHOT) == "Saving data"


def test_progress_grows_with_each_step() -> None:
    assert [update_phases.count_done(step) for step in (None, *update_phases.STEPS)] == list(range(14))
    assert update_phases.count_done(Step.ROLLBACK) == 0

"""Every fault at every call of an update. `make test-chaos` runs this for hours; `test_chaos` is a sample of it."""

from __future__ import annotations

import pytest

from tests.daemon.update.chaos import RELEASES, Chaos
from tests.support.faulty_engine import Fault

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.timeout(0)]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("release", RELEASES)
def test_one_failing_call_loses_no_bot_and_no_data(chaos: Chaos, release: str, fault: Fault) -> None:
    problems = []
    for call in chaos.record_calls(release):
        try:
            chaos.run(release, call, fault)
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n\n".join(problems)

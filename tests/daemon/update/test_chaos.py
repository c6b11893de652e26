"""Updates in which one call to the engine fails: the bot ends up on one of both releases, with the right data.

This is a small sample. `make test-chaos` injects every fault at every call.
"""

from __future__ import annotations

import pytest

from tests.daemon.update.chaos import Chaos
from tests.support.faulty_engine import Call, Fault

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("release", "name", "fault"),
    [
        ("good", "POST /containers/bot/rename old", Fault.KILLED_AFTER),
        ("good", "POST /containers/new/start", Fault.REFUSED),
        ("bad", "POST /containers/restore/start", Fault.CUT),
        ("bad", "POST /containers/bot/start", Fault.FAILED),
    ],
)
def test_one_failing_call_loses_no_bot_and_no_data(chaos: Chaos, release: str, name: str, fault: Fault) -> None:
    call = Call(name, 1)
    assert call in chaos.run(release, call, fault)

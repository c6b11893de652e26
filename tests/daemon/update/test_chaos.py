"""Updates in which one call to the engine fails: the bot ends up on one of both releases, with the right data.

This is a fixed sample; `make test-chaos` injects every fault at every call.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.daemon.update.chaos import RELEASES, Chaos
from tests.support.faulty_engine import Fault

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = os.environ.get("FLOTILLA_CHAOS_SEED", "1")


@pytest.mark.parametrize("release", RELEASES)
def test_one_failing_call_loses_no_bot_and_no_data(chaos: Chaos, release: str) -> None:
    choose = random.Random(f"{SEED} {release}")  # noqa: S311 - not a secret
    calls = chaos.record_calls(release)
    for fault in choose.sample(list(Fault), 2):
        chaos.run(release, choose.choice(calls), fault)

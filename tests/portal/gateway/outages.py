"""What has to happen while the database does not answer. Used by the tests of each kind of database."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from portal.gateway import limits
from tests.portal.gateway.test_revocation import LIMIT_SECONDS, open_streams
from tests.support.gateway import Browser, FakeBot

HEAL_SECONDS = 20.0


def read_status(browser: Browser) -> int:
    """Send a request without a body, and return the status."""
    return browser.read("/", "HEAD")[0]


def check_outage(browser: Browser, other: Browser, bot: FakeBot, outage: AbstractContextManager[None]) -> None:
    """Check that all access ends during an outage of the database, and returns after it.

    Args:
        browser: has used the bot before.
        other: has not, so there is no decision about it.
        bot: their bot.
        outage: the database does not answer during its `with` block.
    """
    with open_streams(browser, bot) as wait_for_end, ThreadPoolExecutor(12) as threads:
        assert read_status(browser) == 200
        with outage:
            began = time.monotonic()
            ended, stranger = threads.submit(wait_for_end), threads.submit(read_status, other)
            while read_status(browser) == 200:
                assert time.monotonic() - began < limits.DECISION_SECONDS + 0.5, "an old decision was used"
                time.sleep(0.05)
            assert stranger.result() == 503
            assert ended.result()[1] < LIMIT_SECONDS, "a stream continued without a decision"
            health = threads.submit(browser.read, "/healthz", headers={"Host": "127.0.0.1"})
            assert list(threads.map(read_status, [browser, other] * 4)) == [503] * 8
            assert health.result()[0] == 503
        _wait_until_healed(browser)
        assert read_status(other) == 200


def _wait_until_healed(browser: Browser) -> None:
    began = time.monotonic()
    while read_status(browser) != 200:
        assert time.monotonic() - began < HEAL_SECONDS, "the gateway did not heal"
        time.sleep(0.05)

"""Fixtures for the tests of the reference bot's modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.reference_bot.local_bots import BotClient, running_bot


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[BotClient]:
    """Return a client of an empty bot in hosted mode."""
    with running_bot(tmp_path) as client:
        yield client

"""Fixtures for the tests of the demo: containers of the reference bot."""

from collections.abc import Iterator
from uuid import uuid4

import docker
import pytest

from tests.demo.bot_containers import BotRunner
from tests.support.images import ReferenceImages


@pytest.fixture
def bots(
    engine: docker.APIClient, reference_images: ReferenceImages, run_labels: dict[str, str]
) -> Iterator[BotRunner]:
    """Return a runner that starts releases of the bot on two volumes of this test."""
    volumes = (f"data-{uuid4().hex}", f"files-{uuid4().hex}")
    for name in volumes:
        engine.create_volume(name, labels=run_labels)
    runner = BotRunner(engine, reference_images, volumes)
    yield runner
    runner.remove_all()
    for name in volumes:
        engine.remove_volume(name)

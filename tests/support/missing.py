"""What happens when this machine lacks a part that a test needs."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

from demo.processes import MissingRequirement

Part = TypeVar("Part")


@contextmanager
def part(server: AbstractContextManager[Part]) -> Iterator[Part]:
    """Run a part of the machine for the time of a `with` block.

    Where it is missing or does not start the test is skipped with the reason; in CI (`CI=true`) it fails,
    because there nothing may be left out.
    """
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except MissingRequirement as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"a part is missing: {error}", pytrace=False)
            pytest.skip(str(error))
        yield running

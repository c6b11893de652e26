"""Handling of missing services: skip or fail the test. Used by fixtures that start a service."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

from demo.processes import MissingRequirement

Service = TypeVar("Service")


@contextmanager
def required_service(server: AbstractContextManager[Service]) -> Iterator[Service]:
    """Run a service for the duration of a `with` block.

    If the service is missing or does not start, the test is skipped with the reason; in CI (`CI=true`) it fails.
    """
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except MissingRequirement as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"a service is missing: {error}", pytrace=False)
            pytest.skip(str(error))
        yield running

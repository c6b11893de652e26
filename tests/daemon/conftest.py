"""Fixtures for the background processes and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from daemon import cli, context
from portal.settings import Settings

Flotilla = Callable[..., Result]


@pytest.fixture
def fresh_context() -> Iterator[None]:
    """Let this process read its settings anew, and forget them afterwards."""
    context.current.cache_clear()
    yield
    if context.current.cache_info().currsize:
        context.current().database.dispose()
        context.current().redis.close()
    context.current.cache_clear()


@pytest.fixture
def flotilla(settings: Settings, fresh_context: None, monkeypatch: pytest.MonkeyPatch) -> Flotilla:
    """Run the `flotilla` command on this test's database: `flotilla("nodes", "list")`."""
    monkeypatch.setenv("FLEET_IMAGE_ALLOWLIST", "registry.test")

    def run(*arguments: str, stdin: str = "") -> Result:
        result = CliRunner().invoke(cli.main, arguments, input=stdin, prog_name="flotilla")
        assert "Traceback" not in result.output
        return result

    return run

"""Fixtures of the tests of `flotilla upstream`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from portal.database import Database
from portal.settings import Settings
from tests.daemon.upstream.repos import World, new_world
from tests.support.mail import Mailbox
from tests.support.outbox import OutboxWorker


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests with real repositories as slow: each runs about a hundred git processes."""
    if "world" in getattr(item, "fixturenames", ()):
        item.add_marker("slow")


@pytest.fixture(autouse=True)
def git_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the configuration of the machine's user away from the tests."""
    path = tmp_path_factory.mktemp("home") / "gitconfig"
    path.write_text('[protocol "file"]\n\tallow = always\n[init]\n\tdefaultBranch = main\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("UPSTREAM_FORGE", "UPSTREAM_FORGE_API", "UPSTREAM_FORGE_TOKEN", "UPSTREAM_REWRITER"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An upstream, an origin and a fork."""
    return new_world(tmp_path)


@pytest.fixture
def mail_worker(database: Database, settings: Settings, smtp: Mailbox) -> OutboxWorker:
    """A mail worker that sends to `smtp`."""
    worker = OutboxWorker(database, replace(settings, base_url="https://portal.example.com"))
    worker.use_server(smtp)
    return worker

"""The environment of the benchmarks: private engine, registry, Redis and databases. Used by all benchmarks."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import docker
from redis import Redis
from redis.exceptions import RedisError

from daemon.engine.client import Engine
from demo.bench.databases import BenchDatabases, find_postgresql
from demo.config import load_config
from demo.engine import running_engine
from demo.images import build_base_image, build_helper_image
from demo.platform import build_environment
from demo.processes import running
from demo.registry import running_registry
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.settings import Settings


@dataclass(frozen=True)
class BenchEnvironment:
    """The running parts and their addresses.

    Attributes:
        folder: for files of the benchmarks; removed at the end.
        engine: client of a private Docker engine.
        docker_url: address of that engine.
        registry: host and port of the registry.
        settings: of the measured installation.
        databases: databases for benchmarks.
    """

    folder: Path
    engine: docker.APIClient
    docker_url: str
    registry: str
    settings: Settings
    databases: BenchDatabases

    @property
    def registry_log(self) -> Path:
        """The registry's log, with one line per request."""
        return self.folder / "registry" / "registry.log"

    def new_database(self) -> AbstractContextManager[Database]:
        """Return a context with a migrated, empty SQLite database."""
        return self.databases.new()

    def every_database(self) -> AbstractContextManager[dict[str, Database]]:
        """Return a context with a migrated, empty database of each kind, by the name of the kind."""
        return self.databases.every_kind()

    def settings_for(self, database: Database) -> Settings:
        """Return the settings of an installation that uses `database`."""
        return replace(self.settings, database_url=database.engine.url.render_as_string(hide_password=False))


@contextmanager
def open_environment() -> Iterator[BenchEnvironment]:
    """Run all parts for the duration of a `with` block, then remove their data.

    Raises:
        MissingRequirement: a part is missing or did not start, or the PostgreSQL database is not empty.
    """
    with ExitStack() as stack:
        name = tempfile.TemporaryDirectory(prefix="flotilla-bench-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(name))
        config = load_config(folder)
        docker_url = stack.enter_context(running_engine(folder / "engine"))
        stack.enter_context(running_registry(folder / "registry", config.registry_port))
        engine = stack.enter_context(closing(Engine(base_url=docker_url, version="auto", timeout=600)))
        build_base_image(engine, config.labels)
        helper = build_helper_image(engine, config.registry, config.labels)
        # The benchmarks run the daemon's code in this process, so this process needs the same environment.
        os.environ.update(
            build_environment(config, helper) | {"REDIS_URL": "", "REGISTRY_CONFIG": str(folder / "none.json")}
        )
        settings = Settings.from_environment()
        use_keys(settings.secret_key)
        stack.enter_context(_redis_server(settings))
        url = find_postgresql()
        databases = BenchDatabases(folder, url, ["SQLite", "PostgreSQL"] if url else ["SQLite"])
        yield BenchEnvironment(folder, engine, docker_url, config.registry, settings, databases)


@contextmanager
def _redis_server(settings: Settings) -> Iterator[None]:
    def is_ready() -> bool:
        try:
            with Redis.from_url(settings.redis_url) as redis:
                return bool(redis.ping())
        except RedisError:
            return False

    with running(
        [sys.executable, "-m", "daemon.cli", "redis"], log=settings.data_dir.parent / "redis.log", ready=is_ready
    ):
        yield

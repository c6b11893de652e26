"""Where measurements happen: an engine, a registry, Redis and databases of the benchmark's own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import sqlalchemy as sa
from redis import Redis
from redis.exceptions import RedisError

from demo.engine import running_engine
from demo.home import open_home
from demo.images import build_base_image, build_helper_image
from demo.platform import environment, migrate
from demo.processes import MissingRequirement, running
from demo.registry import running_registry
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.settings import Settings


@dataclass(frozen=True)
class BenchEnvironment:
    """The running parts, and what is needed to use them.

    Attributes:
        folder: for whatever a measurement writes; removed in the end.
        engine: a Docker engine that nobody else uses.
        docker_url: its address.
        registry: host and port of the registry.
        settings: of the installation that is measured.
        postgresql: address of an empty PostgreSQL database, where one was given.
    """

    folder: Path
    engine: docker.APIClient
    docker_url: str
    registry: str
    settings: Settings
    postgresql: str | None

    @property
    def registry_log(self) -> Path:
        """What the registry prints; a line for every request."""
        return self.folder / "registry" / "registry.log"

    @contextmanager
    def new_database(self) -> Iterator[Database]:
        """A migrated, empty SQLite database."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, _migrated(f"sqlite:///{folder}/bench.db") as new:
            yield new

    @contextmanager
    def every_database(self) -> Iterator[dict[str, Database]]:
        """A migrated, empty database of each kind, by the name of its kind."""
        with ExitStack() as stack:
            databases = {"SQLite": stack.enter_context(self.new_database())}
            if self.postgresql:
                databases["PostgreSQL"] = stack.enter_context(_emptied_again(self.postgresql))
            yield databases

    def settings_for(self, database: Database) -> Settings:
        """The settings of an installation on that database."""
        return replace(self.settings, database_url=database.engine.url.render_as_string(hide_password=False))


@contextmanager
def open_environment() -> Iterator[BenchEnvironment]:
    """Start everything for the time of a `with` block, and leave nothing behind.

    Raises:
        MachineError: a part is missing or did not start, or the PostgreSQL database is not empty.
    """
    with ExitStack() as stack:
        name = tempfile.TemporaryDirectory(prefix="flotilla-bench-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(name))
        home = open_home(folder)
        docker_url = stack.enter_context(running_engine(folder / "engine"))
        stack.enter_context(running_registry(folder / "registry", home.registry_port))
        engine = stack.enter_context(closing(docker.APIClient(base_url=docker_url, version="auto", timeout=600)))
        build_base_image(engine, home.labels)
        helper = build_helper_image(engine, home.registry, home.labels)
        # This process is one of the installation's own, so it has the environment that all of them have.
        os.environ.update(environment(home, helper) | {"REDIS_URL": "", "REGISTRY_CONFIG": str(folder / "none.json")})
        settings = Settings.from_environment()
        use_keys(settings.secret_key)
        stack.enter_context(_running_redis(settings))
        yield BenchEnvironment(folder, engine, docker_url, home.registry, settings, _empty_postgresql())


@contextmanager
def _running_redis(settings: Settings) -> Iterator[None]:
    def answers() -> bool:
        try:
            with Redis.from_url(settings.redis_url) as redis:
                return bool(redis.ping())
        except RedisError:
            return False

    with running(
        [sys.executable, "-m", "daemon.cli", "redis"], log=settings.data_dir.parent / "redis.log", ready=answers
    ):
        yield


def _empty_postgresql() -> str | None:
    url = os.environ.get("FLOTILLA_BENCH_DATABASE")
    if not url:
        return None
    engine = sa.create_engine(url)
    try:
        tables = sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise MissingRequirement(
            "the database FLOTILLA_BENCH_DATABASE names is not empty; give the benchmark one of its own"
        )
    return url


@contextmanager
def _migrated(url: str) -> Iterator[Database]:
    migrate({**os.environ, "DATABASE_URL": url})
    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def _emptied_again(url: str) -> Iterator[Database]:
    with _migrated(url) as database:
        try:
            yield database
        finally:
            tables = sa.MetaData()
            tables.reflect(database.engine)
            tables.drop_all(database.engine)

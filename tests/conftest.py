"""Fixtures for all tests. Every part is real and starts when a test first asks for it.

`FLOTILLA_TEST_DATABASES` (`sqlite`, or `sqlite,postgresql`) says which databases to test with; `FLOTILLA_TEST_DOCKER`
names an engine to use instead of one of our own; with `CI=true` a missing part is a failure.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import docker
import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from playwright.sync_api import Browser, Page
from redis import Redis
from werkzeug.routing import Rule

from demo.images import build_helper_image
from demo.registry import running_registry
from portal import password_hashing
from portal.app import create_app
from portal.database import Database
from portal.models import Membership, MembershipRole, Org, User, utcnow
from portal.models.encrypted import use_keys
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.extensions import db
from portal.web.security import session_cookie_name
from tests.support import databases
from tests.support.browser import running_browser
from tests.support.cast import Cast, SignedIn
from tests.support.databases import PostgresDatabase, SqliteDatabase
from tests.support.docker import RUN_LABEL, engine_for_tests, remove_labelled
from tests.support.images import ReferenceImages
from tests.support.mail import Mailbox, running_mailbox
from tests.support.missing import part
from tests.support.postgres import running_postgres
from tests.support.redis import running_redis
from tests.support.scene import Scene, small_fleet

SECRET_KEY = "a key for tests, long enough to be accepted"

ONCE = {"docker", "browser", "processes", "requests"}
"""Marks of tests about containers, screens, processes or requests, which are hardly about the database."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for every kind of database asked for; one with a mark of `ONCE` for the first kind only."""
    if "database_kind" in metafunc.fixturenames:
        kinds = databases.kinds()
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        metafunc.parametrize("database_kind", kinds[:1] if marks & ONCE else kinds)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest, so that no process is left alone with them when all others have finished."""
    items.sort(key=lambda item: item.get_closest_marker("docker") is None)


class QuickRule(Rule):
    """A route that is compiled for the first of many apps only."""

    _builders: ClassVar[dict[tuple[str, str, bool], Any]] = {}

    def _compile_builder(self, append_unknown: bool = True) -> Any:
        same = (self.rule, repr(self.defaults), append_unknown)
        if same not in self._builders:
            self._builders[same] = super()._compile_builder(append_unknown)
        return self._builders[same]


@pytest.fixture(scope="session", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Spare every test what takes long on purpose, or is the same each time: dear hashes, compiling."""
    password_hashing._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    Flask.url_rule_class = QuickRule
    Flask.jinja_options = {"bytecode_cache": FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))}


@pytest.fixture(scope="session")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder for the data of the parts, removed at the end because images are large."""
    folder = tmp_path_factory.mktemp("machine")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def docker_url(machine_folder: Path) -> Iterator[str]:
    """Address of the Docker engine."""
    with part(engine_for_tests(machine_folder / "engine")) as url:
        yield url


@pytest.fixture(scope="session")
def run_labels() -> dict[str, str]:
    """The label of everything this run makes on an engine; containers inherit it from the reference images."""
    return {RUN_LABEL: uuid4().hex}


@pytest.fixture(scope="session")
def engine(docker_url: str, run_labels: dict[str, str]) -> Iterator[docker.APIClient]:
    """A client of the engine; what carries the run's label is removed at the end."""
    client = docker.APIClient(base_url=docker_url, version="auto", timeout=60)
    yield client
    remove_labelled(client, run_labels[RUN_LABEL])
    client.close()


@pytest.fixture(scope="session")
def registry(machine_folder: Path) -> Iterator[str]:
    """Address of the registry, such as `127.0.0.1:45123`."""
    with part(running_registry(machine_folder / "registry")) as address:
        yield address


@pytest.fixture(scope="session")
def reference_images(engine: docker.APIClient, registry: str, run_labels: dict[str, str]) -> ReferenceImages:
    """Releases of the reference bot, built and pushed when first asked for."""
    return ReferenceImages(engine, registry, run_labels)


@pytest.fixture(scope="session")
def snapshot_image(engine: docker.APIClient, registry: str, run_labels: dict[str, str]) -> str:
    """Reference of the image that takes snapshots."""
    return build_helper_image(engine, registry, run_labels)


@pytest.fixture(scope="session")
def redis_server(machine_folder: Path) -> Iterator[str]:
    """URL of the Redis-compatible server."""
    with part(running_redis(machine_folder / "redis")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of the Redis-compatible server, emptied for this test."""
    with Redis.from_url(redis_server) as client:
        # A worker that an earlier test has just killed must not be handed this test's jobs.
        client.client_kill_filter(_type="normal")
        client.flushall()
    return redis_server


@pytest.fixture
def smtp() -> Iterator[Mailbox]:
    """A mail server which keeps in `messages` what it is sent."""
    with running_mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of a PostgreSQL cluster of our own."""
    with part(running_postgres()) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabase:
    """A migrated SQLite database to copy."""
    return SqliteDatabase(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def postgresql(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> PostgresDatabase:
    """A migrated PostgreSQL database to use over and over."""
    return PostgresDatabase(postgres_url, tmp_path_factory.mktemp("template"))


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a migrated, empty database for this test alone."""
    source: SqliteDatabase | PostgresDatabase = request.getfixturevalue(database_kind)
    with source.empty(tmp_path) as url:
        yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for this test's database; they are in the environment too, so that child processes have them."""
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return Settings.from_environment()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database as a worker uses it: `with database.transaction() as session`."""
    use_keys(settings.secret_key)
    database = Database(settings.database_url)
    yield database
    database.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser; it stays for one module only, because its event loop would disturb asyncio in others."""
    with part(running_browser()) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a fresh browser profile."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def app(settings: Settings, redis_url: str) -> Iterator[Flask]:
    """The portal on this test's database."""
    app = create_app(
        replace(
            settings, redis_url=redis_url, base_url="http://localhost", fleet_image_allowlist=("registry.example",)
        )
    )
    app.testing = True
    # One test proves that tokens are asked for; in all others they would only be in the way.
    app.config["WTF_CSRF_ENABLED"] = False
    yield app
    app.extensions["redis"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def cast(database: Database) -> Cast:
    """The people and Acme in the database."""
    with database.transaction() as session:
        people = {
            name: User(email=f"{name}@example.com", email_normalized=f"{name}@example.com", name=name.title())
            for name in ("alice", "bob", "carol", "mallory", "root")
        }
        people["root"].is_platform_admin = True
        session.add_all(people.values())
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=people["alice"].id)
        session.add(org)
        session.flush()
        for name, role in (("alice", "admin"), ("bob", "member"), ("carol", "admin")):
            session.add(Membership(org_id=org.id, user_id=people[name].id, role=MembershipRole(role)))
        return Cast(people={name: user.id for name, user in people.items()}, org_id=org.id)


@pytest.fixture
def signed_in(app: Flask, settings: Settings, database: Database, cast: Cast) -> SignedIn:
    """Make a browser signed in as somebody of the cast."""

    def client_of(name: str) -> FlaskClient:
        with database.transaction() as session:
            token = sessions.start(session, cast.people[name], now=utcnow(), user_agent="test", ip="127.0.0.1")
        client = app.test_client()
        client.set_cookie(session_cookie_name(settings), token)
        client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
        # As our script does for the page it runs in.
        client.environ_base["HTTP_X_TENANT_ID"] = cast.org_id
        return client

    return client_of


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A browser that nobody is signed in with."""
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return client


@pytest.fixture
def scene(database: Database, cast: Cast) -> Scene:
    """Acme has three bots on 1.4.0, and 1.5.0 is out."""
    with database.transaction() as session:
        return small_fleet(session, session.get_one(Org, cast.org_id))

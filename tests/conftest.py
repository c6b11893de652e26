"""Fixtures for all tests. External services are real and start when a test first uses them.

Environment variables: `FLOTILLA_TEST_DATABASES` lists the databases to test with (`sqlite` or `sqlite,postgresql`),
`FLOTILLA_TEST_DOCKER` is the URL of an existing engine, and with `CI=true` a missing service is a failure.
"""

import gc
import shutil
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import MethodType
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
from demo.postgresql import running_postgres
from demo.registry import running_registry
from portal import password_hashing
from portal.app import create_app
from portal.database import Database
from portal.models import MembershipRole, Org, utcnow
from portal.models.encrypted import use_keys
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.views.org import bot_logs
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import db
from tests import factories
from tests.support import databases
from tests.support.browser import running_browser
from tests.support.cast import Cast, SignedIn
from tests.support.databases import PostgresDatabase, SqliteDatabase
from tests.support.docker import RUN_LABEL, engine_for_tests, remove_labelled
from tests.support.images import ReferenceImages
from tests.support.mail import Mailbox, running_mailbox
from tests.support.missing import required_service
from tests.support.redis import running_redis
from tests.support.scene import Scene, small_fleet
from tests.support.statement_cache import share_compiled_statements

SECRET_KEY = "a key for tests, long enough to be accepted"

ONE_DATABASE_MARKS = {"docker", "browser", "processes", "requests"}
"""Marks of tests that hardly depend on the kind of database and run on one kind only."""

GARBAGE_THRESHOLDS = (50_000, 20, 50)
"""New objects per collection of the youngest generation, then collections of a generation per one of the next."""

LONG_MARKS = ("slow", "browser", "processes")
"""Marks of tests that take seconds."""

COMPUTING_PER_WAITING = 3
"""Files of computing tests per file of tests that wait: most files compute, and the last files should be short."""

SERVICE_MARKS = {"docker_url": "docker", "registry": "registry", "browser": "browser"}
"""Fixtures that start a service, and the mark of the tests that use them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test for every kind of database, or for the first kind only if its marks say so."""
    if "database_kind" in metafunc.fixturenames:
        kinds = databases.list_kinds()
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        one = marks & ONE_DATABASE_MARKS and "every_database" not in marks
        metafunc.parametrize("database_kind", kinds[:1] if one else kinds)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by the services it uses, before pytest selects tests by their marks."""
    for fixture in SERVICE_MARKS.keys() & set(getattr(item, "fixturenames", ())):
        item.add_marker(SERVICE_MARKS[fixture])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let garbage collections ignore modules and tests, of which there are half a million objects, and run rarely."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix files of tests that wait for containers with files that compute, and end with the shortest files.

    The test processes receive the files in this order, so that some compute while others wait, and all of them finish
    at about the same time. No browser runs beside containers, because Chromium gives requests up when the network of
    the machine changes.
    """
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    browsers = [tests for tests in files if _has_mark(tests, "browser")]
    waiting = [tests for tests in files if _has_mark(tests, "docker") and tests not in browsers]
    computing = [tests for tests in files if tests not in browsers and tests not in waiting]
    computing.sort(key=lambda tests: not _has_mark(tests, *LONG_MARKS))
    beside = COMPUTING_PER_WAITING * len(waiting)
    computing, short = computing[:beside], computing[beside:]
    items[:] = []
    while waiting or computing:
        mixed = [*waiting[:1], *computing[:COMPUTING_PER_WAITING]]
        waiting, computing = waiting[1:], computing[COMPUTING_PER_WAITING:]
        items.extend(item for tests in mixed for item in tests)
    half = len(short) // 2
    items.extend(item for tests in (*short[:half], *browsers, *short[half:]) for item in tests)


def _has_mark(tests: list[pytest.Item], *names: str) -> bool:
    return any(item.get_closest_marker(name) for item in tests for name in names)


class CachedRule(Rule):
    """A route that shares its compiled form with the same route of all applications of a test process."""

    _forms: ClassVar[dict[tuple[object, ...], dict[str, Any]]] = {}

    def compile(self) -> None:
        """Compile the route, or copy the compiled form of the same route."""
        key = (self.rule, self.subdomain, self.merge_slashes, repr(self.defaults))
        if form := self._forms.get(key):
            builders = {name: MethodType(form[name].__func__, self) for name in ("_build", "_build_unknown")}
            vars(self).update({**form, **builders})
        else:
            super().compile()
            names = ("_parts", "_trace", "_converters", "arguments", "_build", "_build_unknown")
            self._forms[key] = {name: vars(self)[name] for name in names}


@pytest.fixture(scope="session", autouse=True)
def fast_setup(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use cheap password hashes, do not wait for disks, and share compiled code and statements between tests."""
    share_compiled_statements()
    databases.skip_syncs_of_sqlite()
    password_hashing._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    Flask.url_rule_class = CachedRule
    Flask.jinja_options = {"bytecode_cache": FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))}


@pytest.fixture(scope="session")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder for data of services; it is removed at the end because images are large."""
    folder = tmp_path_factory.mktemp("machine")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def docker_url(machine_folder: Path) -> Iterator[str]:
    """URL of the Docker engine."""
    with required_service(engine_for_tests(machine_folder / "engine")) as url:
        yield url


@pytest.fixture(scope="session")
def run_labels() -> dict[str, str]:
    """Label of everything this run creates on an engine. Containers inherit it from the reference images."""
    return {RUN_LABEL: uuid4().hex}


@pytest.fixture(scope="session")
def engine(docker_url: str, run_labels: dict[str, str]) -> Iterator[docker.APIClient]:
    """Client of the engine. Everything with the label of this run is removed at the end."""
    client = docker.APIClient(base_url=docker_url, version="auto", timeout=60)
    yield client
    remove_labelled(client, run_labels[RUN_LABEL])
    client.close()


@pytest.fixture(scope="session")
def registry(machine_folder: Path) -> Iterator[str]:
    """Host and port of the registry, for example `127.0.0.1:45123`."""
    with required_service(running_registry(machine_folder / "registry")) as address:
        yield address


@pytest.fixture(scope="session")
def reference_images(engine: docker.APIClient, registry: str, run_labels: dict[str, str]) -> ReferenceImages:
    """Releases of the reference bot, built and pushed on first use."""
    return ReferenceImages(engine, registry, run_labels)


@pytest.fixture(scope="session")
def snapshot_image(engine: docker.APIClient, registry: str, run_labels: dict[str, str]) -> str:
    """Reference of the snapshot image."""
    return build_helper_image(engine, registry, run_labels)


@pytest.fixture(scope="session")
def redis_server(machine_folder: Path) -> Iterator[str]:
    """URL of the Redis-compatible server."""
    with required_service(running_redis(machine_folder / "redis")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of the Redis-compatible server, emptied for this test."""
    with Redis.from_url(redis_server) as client:
        # Workers killed by an earlier test must not receive jobs of this test.
        client.client_kill_filter(_type="normal")
        client.flushall()
    return redis_server


@pytest.fixture
def smtp() -> Iterator[Mailbox]:
    """A mail server that stores received emails in `messages`."""
    with running_mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of the PostgreSQL cluster."""
    with required_service(running_postgres()) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabase:
    """A migrated SQLite database, copied for each test."""
    return SqliteDatabase(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def postgresql(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresDatabase]:
    """A migrated PostgreSQL database, emptied after each test."""
    database = PostgresDatabase(postgres_url, tmp_path_factory.mktemp("template"))
    yield database
    database.abandon()


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a migrated, empty database for this test."""
    source: SqliteDatabase | PostgresDatabase = request.getfixturevalue(database_kind)
    with source.empty(tmp_path) as url:
        yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with this test's database, which are also in the environment for child processes."""
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return Settings.from_environment()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database of this test, as used by a worker: `with database.transaction() as session`."""
    use_keys(settings.secret_key)
    database = Database(settings.database_url)
    yield database
    database.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser. It runs for one module only, because its event loop would disturb asyncio in other modules."""
    with required_service(running_browser()) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a new browser profile."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def app(settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The portal with this test's database."""
    # No worker runs that could read a log.
    monkeypatch.setattr(bot_logs, "_WAIT_SECONDS", 0)
    monkeypatch.setattr(bot_logs, "_WAIT_FOR_DOWNLOAD_SECONDS", 0)
    app = create_app(
        replace(
            settings,
            redis_url=redis_url,
            base_url="http://localhost",
            gateway=replace(settings.gateway, bots_domain="bots.example"),
            fleet_image_allowlist=("registry.example",),
        )
    )
    app.testing = True
    # One test covers CSRF tokens; other tests would only have to pass them along.
    app.config["WTF_CSRF_ENABLED"] = False
    yield app
    app.extensions["redis"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def cast(database: Database) -> Cast:
    """Add the users and the organization Acme."""
    with database.transaction() as session:
        people = {name: factories.user(session, name) for name in ("alice", "bob", "carol", "mallory")}
        people["root"] = factories.user(session, "root", is_platform_admin=True)
        org = factories.org(session, people["alice"])
        factories.membership(session, org, people["bob"])
        factories.membership(session, org, people["carol"], MembershipRole.ADMIN)
        return Cast(people={name: user.id for name, user in people.items()}, org_id=org.id)


@pytest.fixture
def signed_in(app: Flask, settings: Settings, database: Database, cast: Cast) -> SignedIn:
    """Return a function that returns the test client of a signed-in user, given by name."""

    def client_of(name: str) -> FlaskClient:
        with database.transaction() as session:
            token = sessions.start(session, cast.people[name], now=utcnow(), user_agent="test", ip="127.0.0.1")
        client = app.test_client()
        client.set_cookie(session_cookie_name(settings), token)
        client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
        # The portal's script sends this header, too.
        client.environ_base["HTTP_X_TENANT_ID"] = cast.org_id
        return client

    return client_of


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """The test client of a signed-out visitor."""
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return client


@pytest.fixture
def scene(database: Database, cast: Cast) -> Scene:
    """Add three bots of Acme on 1.4.0 and the newer release 1.5.0."""
    with database.transaction() as session:
        return small_fleet(session, session.get_one(Org, cast.org_id))

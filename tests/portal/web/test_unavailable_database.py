"""Requests while the database cannot be used: a page with 503 and Retry-After, and nothing is lost."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import UserSession, utcnow
from portal.queue import MAIL_QUEUE, open_queue
from portal.settings import Settings
from portal.web.extensions import db
from tests.support.cast import SignedIn
from tests.support.outages import locked_database, suspended_commit

Outage = Callable[[], AbstractContextManager[None]]

MESSAGE = "The portal cannot use its database at the moment."


@pytest.fixture
def outage(app: Flask, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Outage:
    """Return a function that makes the database unusable for a block. Statements wait only briefly for it."""
    app.testing = False  # errors are answered as in production
    monkeypatch.setattr("portal.database.WAIT_SECONDS", 0.1)

    @contextmanager
    def begin() -> Iterator[None]:
        close_connections(app, database)
        with locked_database(settings.database_url):
            yield
        close_connections(app, database)

    return begin


def close_connections(app: Flask, database: Database) -> None:
    database.dispose()
    with app.app_context():
        db.engine.dispose()


def check_answer(response: TestResponse, caplog: pytest.LogCaptureFixture) -> None:
    """Check that the response tells what to do and that neither it nor the log contains a traceback."""
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "10"
    assert MESSAGE in response.text + response.headers.get("HX-Trigger", "")
    assert "Traceback" not in response.text
    assert "SELECT" not in response.text
    assert response.headers["Content-Security-Policy"]
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


REQUESTS: dict[str, Callable[[FlaskClient], TestResponse]] = {
    "page": lambda client: client.get("/o/acme/"),
    "live part": lambda client: client.get("/o/acme/?part=bots", headers={"HX-Request": "true"}),
    "form": lambda client: client.post("/o/acme/settings", data={"name": "New name"}),
    "sign-in": lambda client: client.post("/login", data={"email": "a@example.com", "password": "x" * 15}),
    "home": lambda client: client.get("/"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_answered_with_503_and_succeeds_after_the_outage(
    signed_in: SignedIn, outage: Outage, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    client = signed_in("alice")
    with outage():
        check_answer(REQUESTS[name](client), caplog)

    assert REQUESTS[name](client).status_code < 500


def test_health_endpoint_reports_the_outage(database: Database, stranger: FlaskClient, outage: Outage) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("the endpoint reads no table, so locked tables do not matter to it")
    with outage():
        assert stranger.get("/healthz").status_code == 503

    assert stranger.get("/healthz").status_code == 200


def test_failed_commit_changes_nothing_and_enqueues_nothing(
    app: Flask, stranger: FlaskClient, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    """The outage begins after the view. `outage` only prepares the application."""
    del outage

    def fail(connection: sa.Connection) -> None:
        kind = {"sqlite": sqlite3.OperationalError, "postgresql": psycopg.OperationalError}
        raise sa.exc.OperationalError("COMMIT", None, kind[connection.dialect.name]("no longer there"))

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "commit", fail)
    response = stranger.post("/signup", data={"email": "new@example.com"})
    sa.event.remove(engine, "commit", fail)

    assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    assert MESSAGE in response.text
    assert open_queue(app.extensions["redis"], MAIL_QUEUE).jobs == []
    assert stranger.post("/signup", data={"email": "new@example.com"}).status_code == 303
    assert len(open_queue(app.extensions["redis"], MAIL_QUEUE).jobs) == 1


def test_wrong_statement_is_not_taken_for_an_outage(
    database: Database, signed_in: SignedIn, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator has not migrated the database."""
    del outage
    client = signed_in("alice")
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE polled_images RENAME TO moved"))

    response = client.get("/o/acme/")

    assert response.status_code == 500
    assert any(record.exc_info for record in caplog.records)
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE moved RENAME TO polled_images"))


def test_page_is_shown_although_the_use_of_the_session_cannot_be_recorded(
    database: Database, settings: Settings, signed_in: SignedIn, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process is suspended in a transaction, which does not keep others from reading."""
    del outage
    caplog.set_level(logging.WARNING)
    client = signed_in("alice")
    an_hour_ago = utcnow() - timedelta(hours=1)
    with database.transaction() as session:
        session.execute(sa.update(UserSession).values(last_seen_at=an_hour_ago))

    with database.transaction() as session:
        session.execute(sa.update(UserSession).values(ip="10.0.0.1"))
        response = client.get("/account")

    assert response.status_code == 200
    assert "cannot be recorded" in caplog.text


@pytest.mark.slow
def test_process_that_is_suspended_in_a_commit_of_sqlite(
    app: Flask, database: Database, settings: Settings, signed_in: SignedIn, caplog: pytest.LogCaptureFixture
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL serves each process apart")
    app.testing = False
    client = signed_in("alice")
    assert client.get("/o/acme/").status_code == 200

    with suspended_commit(Path(str(sa.make_url(settings.database_url).database))):
        check_answer(client.get("/o/acme/"), caplog)

    assert client.get("/o/acme/").status_code == 200

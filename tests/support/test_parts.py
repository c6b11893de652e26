"""The services that tests rely on: registry, Redis, mail, PostgreSQL, databases and browser."""

import smtplib
import urllib.request
from email.message import EmailMessage

import psycopg
import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect
from redis import Redis

from portal.database import Database
from tests.support.mail import Mailbox


def test_registry_answers(registry: str) -> None:
    with urllib.request.urlopen(f"http://{registry}/v2/") as answer:
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("_turn", [1, 2])
def test_redis_is_empty_for_each_test(redis_url: str, _turn: int) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.incr("visits") == 1


def test_mail_arrives(smtp: Mailbox) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "zoë@example.org", "Grüße"
    message.set_content("https://portal.example.org/invites/1")
    with smtplib.SMTP(smtp.host, smtp.port) as client:
        client.send_message(message, to_addrs=["b@example.org"])
    (received,) = smtp.wait_for(1)
    assert received["Subject"] == "Grüße"
    assert received["X-Recipients"] == "b@example.org"
    assert "invites/1" in received.get_content()


def test_postgres_is_the_cluster_of_the_test_run(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SHOW fsync").fetchone()
    assert row == ("off",)


@pytest.mark.parametrize("_turn", [1, 2])
def test_each_test_gets_its_own_migrated_database(
    database: Database,
    database_kind: str,
    _turn: int,
) -> None:
    assert database.engine.dialect.name == database_kind
    assert {"alembic_version", "users"} <= set(sa.inspect(database.engine).get_table_names())
    with database.transaction() as session:
        session.execute(sa.text("CREATE TABLE leftovers (id INTEGER)"))


@pytest.mark.browser
def test_browser_shows_a_page(page: Page) -> None:
    page.set_content("<h1>Fleet</h1>")
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()

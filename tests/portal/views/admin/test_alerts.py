"""Operators' pages about alerts: add, change, test, pause, secrets that are shown once, messages."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import AlertChannel, AlertDelivery, AlertState
from tests.support.cast import SignedIn

SECRET_URL = "https://chat.example/hook/very-secret"


@pytest.fixture
def root(signed_in: SignedIn) -> FlaskClient:
    """A browser in which the operator is signed in."""
    return signed_in("root")


def load(database: Database) -> AlertChannel:
    """Return the only channel."""
    with database.reading() as session:
        return session.scalars(sa.select(AlertChannel)).one()


def add(root: FlaskClient, kind: str = "json") -> str:
    """Add a channel and return the answer."""
    data = {"name": "Operations", "format": kind, "url": SECRET_URL, "tags": ["node.offline", "rollout.paused"]}
    return root.post("/admin/alerts/new", data=data, follow_redirects=True).text


def test_signing_secret_is_shown_once_and_the_url_never(root: FlaskClient, database: Database) -> None:
    shown = re.search(r"whsec_[A-Za-z0-9+/=]+", add(root))
    page = root.get(f"/admin/alerts/{load(database).id}").text

    assert shown
    assert "whsec_" not in page
    assert "very-secret" not in page
    assert "chat.example" in page
    assert "chat.example" in root.get("/admin/alerts").text


def test_new_form_offers_the_events_that_need_attention(root: FlaskClient) -> None:
    page = root.get("/admin/alerts/new").text
    assert re.search(r'value="node.offline" checked', page)
    assert re.search(r'value="bot.updated">', page)


def test_invalid_form_is_shown_again(root: FlaskClient, database: Database) -> None:
    data = {"name": "Operations", "format": "slack", "url": "ftp://x", "tags": ["node.offline"]}
    answer = root.post("/admin/alerts/new", data=data)
    assert answer.status_code == 422
    assert "begins with https://" in answer.text


def test_channel_is_changed_paused_resumed_and_deleted(root: FlaskClient, database: Database) -> None:
    add(root, "slack")
    path = f"/admin/alerts/{load(database).id}"

    root.post(path, data={"version": 1, "name": "Night shift", "url": "", "tags": ["node.online"]})
    assert (load(database).name, load(database).tags) == ("Night shift", ["node.online"])
    stale = root.post(path, data={"version": 1, "name": "Old", "url": "", "tags": ["node.online"]})
    assert stale.status_code == 409
    root.post(f"{path}/pause", data={"version": 2})
    assert "Events are not sent" in root.get(path).text
    root.post(f"{path}/resume", data={"version": 3})
    assert load(database).paused_at is None
    root.post(f"{path}/delete")
    assert "No channels yet" in root.get("/admin/alerts").text


def test_messages_are_listed_and_sent_again(root: FlaskClient, database: Database) -> None:
    add(root, "slack")
    path = f"/admin/alerts/{load(database).id}"
    root.post(f"{path}/test")
    assert "Test message" in root.get(path).text
    with database.transaction() as session:
        delivery = session.scalars(sa.select(AlertDelivery)).one()
        delivery.state, delivery.last_error = AlertState.FAILED, "The receiver answered with status 404."

    assert "status 404" in root.get(path).text
    root.post(f"{path}/messages/{delivery.message_id}/resend")
    with database.reading() as session:
        assert session.scalars(sa.select(AlertDelivery.state)).all() == [AlertState.PENDING]

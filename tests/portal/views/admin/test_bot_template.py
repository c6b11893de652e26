"""Tests of the operators' pages for the bot template and for new bots of an organization."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, BotPhase, BotRequest, BotTemplate, Event, NodeState
from portal.queue import CREATIONS_QUEUE, open_queue
from tests import factories
from tests.factories import IMAGE
from tests.support.cast import Cast, SignedIn

pytestmark = pytest.mark.requests

PAGE = "/admin/settings/bot-template"
FORM = {
    "version": "1",
    "image": IMAGE,
    "release_channel": "stable",
    "port": "3100",
    "health_path": "/health",
    "health_expectation": "any_2xx",
    "volumes": "/data\n/paperclip\n",
    "memory_mb": "512",
    "capabilities": "cap_chown",
    "new_variables": "TOKEN=s3cret-1\nURL=https://s3cret.example",
    "hosted_environment": "HOSTED=1",
    "header_prefix": "x-platform-user",
    "secret_variable": "PROVISION_SECRET",
    "api_key": "s3cret-2",
    "budget_cents": "1000",
    "agents": '[{"name": "writer"}]',
    "extra": "",
    "create_for_new_orgs": "y",
}


@pytest.fixture
def root(signed_in: SignedIn) -> FlaskClient:
    """Return a browser in which the operator is signed in."""
    return signed_in("root")


def load_template(database: Database) -> BotTemplate:
    """Return the template."""
    with database.reading() as session:
        return session.scalars(sa.select(BotTemplate)).one()


@pytest.mark.every_database
def test_template_is_saved_and_shown_without_secrets(root: FlaskClient, database: Database) -> None:
    assert root.post(PAGE, data=FORM).status_code == 303
    stored = load_template(database)
    assert (stored.image, stored.volumes, stored.capabilities) == (IMAGE, ["/data", "/paperclip"], ["CHOWN"])
    assert (stored.memory_mb, stored.pids_limit, stored.gateway_url) == (512, None, None)
    assert stored.environment == {"TOKEN": "s3cret-1", "URL": "https://s3cret.example"}
    assert (stored.api_key, stored.agents, stored.extra) == ("s3cret-2", [{"name": "writer"}], {})
    assert (stored.hosted_environment, stored.create_for_new_orgs) == ({"HOSTED": "1"}, True)
    page, log = root.get(PAGE).text, root.get("/admin/events?about=config").text
    assert "Remove <code>TOKEN</code>" in page
    assert "A key is set." in page
    assert "HOSTED=1" in page
    assert "Settings of new bots were changed" in log
    assert "s3cret" not in page + log


def test_empty_secrets_stay_and_marked_ones_are_removed(root: FlaskClient, database: Database) -> None:
    root.post(PAGE, data=FORM)
    root.post(PAGE, data=FORM | {"version": "2", "new_variables": "NEW=1", "api_key": "", "removed_variables": "URL"})
    stored = load_template(database)
    assert (stored.environment, stored.api_key) == ({"TOKEN": "s3cret-1", "NEW": "1"}, "s3cret-2")
    root.post(PAGE, data=FORM | {"version": "3", "new_variables": "", "api_key": "", "remove_api_key": "y"})
    assert load_template(database).api_key is None


def test_stale_form_changes_nothing_and_shows_the_current_values(root: FlaskClient, database: Database) -> None:
    root.post(PAGE, data=FORM)
    answer = root.post(PAGE, data=FORM | {"memory_mb": "64"})
    assert answer.status_code == 409
    assert 'value="512"' in answer.text
    assert load_template(database).memory_mb == 512


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "evil.example/bot:1"}, "FLEET_IMAGE_ALLOWLIST"),
        ({"port": "0"}, "Enter a number from 1 to 65535."),
        ({"port": "many"}, "Enter a whole number."),
        ({"volumes": "data"}, "is not the path of a folder"),
        ({"capabilities": "EVERYTHING"}, "is not a capability of Linux"),
        ({"new_variables": "TOKEN s3cret-9"}, "Line 1 is not of the form NAME=value."),
        ({"hosted_environment": "TOKEN=1"}, "TOKEN is set by another setting"),
        ({"agents": "[s3cret"}, "This is not JSON."),
        ({"extra": "[]"}, "Enter a JSON object."),
        ({"release_channel": "weekly"}, "Choose"),
        ({"image": ""}, "Enter an image first"),
    ],
)
def test_invalid_value_is_explained_at_its_field(
    root: FlaskClient, database: Database, changes: dict[str, str], message: str
) -> None:
    answer = root.post(PAGE, data=FORM | changes)
    assert (answer.status_code, load_template(database).version) == (422, 1)
    assert message in answer.text.replace("&#39;", "'")
    assert "s3cret-1" not in answer.text
    assert "s3cret-2" not in answer.text


@pytest.mark.every_database
def test_operator_creates_a_bot_on_the_page_of_an_organization(
    root: FlaskClient, app: Flask, database: Database, cast: Cast
) -> None:
    with database.transaction() as session:
        factories.bot_template(session)
        factories.node(session)
    data = {"name": "Front desk", "subdomain": "desk", "node": "north"}
    answer = root.post(f"/admin/orgs/{cast.org_id}/bots", data=data)
    with database.reading() as session:
        bot = session.scalars(sa.select(Bot)).one()
    assert answer.headers["Location"].endswith(f"/o/acme/bots/{bot.id}")
    assert (bot.name, bot.subdomain, bot.phase) == ("Front desk", "desk", BotPhase.CREATING)
    assert len(open_queue(app.extensions["redis"], CREATIONS_QUEUE)) == 1
    assert "Front desk" in root.get(f"/admin/orgs/{cast.org_id}").text


@pytest.mark.parametrize(
    ("image", "state", "message"),
    [(None, NodeState.ACTIVE, "has no image yet"), (IMAGE, NodeState.DRAINING, "No active node has a free port")],
)
def test_bot_that_cannot_be_created_is_explained(  # noqa: PLR0917 - fixtures come by name
    root: FlaskClient, database: Database, cast: Cast, image: str | None, state: NodeState, message: str
) -> None:
    with database.transaction() as session:
        factories.bot_template(session, image=image)
        factories.node(session, state=state)
    answer = root.post(f"/admin/orgs/{cast.org_id}/bots", data={"node": ""})
    assert answer.status_code == 409
    assert message in answer.text
    with database.reading() as session:
        assert session.scalars(sa.select(Bot)).all() == []
        assert session.scalars(sa.select(Event).where(Event.tag == "bot.created")).all() == []


@pytest.mark.every_database
def test_waiting_organization_is_shown_to_operators_and_its_members(
    root: FlaskClient, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    with database.transaction() as session:
        session.add(BotRequest(org_id=cast.org_id, error="No active node has a free port."))
    for page in ("/admin/", f"/admin/orgs/{cast.org_id}"):
        assert "No active node has a free port." in root.get(page).text
    home = signed_in("bob").get("/o/acme/").text
    assert "Your bot is being set up" in home
    assert "node" not in home

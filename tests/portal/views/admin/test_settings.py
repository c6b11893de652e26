"""Tests of the operators' pages: fleet settings, nodes, and restoring a deleted organization."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, DesiredState, Event, FleetSettings, Node, NodeState, Org, OrgState, utcnow
from portal.queue import open_queue, updates_queue_name
from portal.services.orgs import org_deletion
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

pytestmark = pytest.mark.requests

FORM = {
    "mode": "auto",
    "strategy": "rolling_wave",
    "canary": "1",
    "percentage": "25",
    "pause_seconds": "60",
    "failure_threshold": "3",
    "max_retries": "2",
    "max_parallel": "2",
    "tenant_mode": "manual",
    "tenant_hour_utc": "3",
    "members_read_logs": "y",
    "secret_variables": "*SECRET*, *TOKEN*",
    "version": "1",
}


@pytest.fixture
def root(signed_in: SignedIn) -> FlaskClient:
    """Return a browser in which the operator is signed in."""
    return signed_in("root")


def load_settings(database: Database) -> FleetSettings:
    with database.reading() as session:
        return session.query(FleetSettings).one()


@pytest.mark.every_database
def test_fleet_settings_are_shown_and_saved(root: FlaskClient, database: Database) -> None:
    page = root.get("/admin/settings").text
    assert 'name="percentage"' in page
    changed = {
        "mode": "manual",
        "percentage": "40",
        "max_parallel": "5",
        "tenant_mode": "auto",
        "tenant_hour_utc": "23",
    }
    assert root.post("/admin/settings", data=FORM | changed).status_code == 303
    row = load_settings(database)
    assert (row.mode, row.max_parallel, row.tenant_mode, row.tenant_hour_utc) == ("manual", 5, "auto", 23)
    assert row.parameters["percentage"] == 40
    log = root.get("/admin/events?about=config").text
    assert "Fleet settings were changed" in log
    assert "<del>2</del>" in log
    assert "<ins>5</ins>" in log
    assert 'value="40"' in root.get("/admin/settings").text


def test_settings_of_logs_are_saved_and_checked(root: FlaskClient, database: Database) -> None:
    page = root.get("/admin/settings").text
    assert "*SECRET*, *TOKEN*" in page
    changed = {"members_read_logs": "", "secret_variables": " my_key , *token*,MY_KEY,"}
    assert root.post("/admin/settings", data=FORM | changed).status_code == 303
    row = load_settings(database)
    assert (row.members_read_logs, row.secret_variables) == (False, ["MY_KEY", "*TOKEN*"])
    for wrong in ("a b", "x" * 101, ",".join(f"A{number}" for number in range(51))):
        refused = root.post("/admin/settings", data=FORM | {"secret_variables": wrong, "version": str(row.version)})
        assert refused.status_code == 422
    assert load_settings(database).secret_variables == ["MY_KEY", "*TOKEN*"]


def test_saving_unchanged_settings_records_no_event(root: FlaskClient, database: Database) -> None:
    root.get("/admin/settings")
    root.post("/admin/settings", data=FORM)
    version = load_settings(database).version
    with database.reading() as session:
        before = session.query(Event).count()
    assert root.post("/admin/settings", data=FORM | {"version": str(version)}).status_code == 303
    with database.reading() as session:
        assert session.query(Event).count() == before
    assert load_settings(database).version == version


@pytest.mark.parametrize(
    ("invalid", "error"),
    [
        ({"percentage": "0"}, "from 1 to 100"),
        ({"pause_seconds": "soon"}, "Enter a whole number"),
        ({"max_parallel": "51"}, "from 1 to 50"),
        ({"mode": "asleep"}, "Choose one of the options"),
        ({"strategy": "all_at_once"}, "Choose one of the options"),
        ({"tenant_hour_utc": "24"}, "Choose one of the options"),
    ],
)
def test_invalid_settings_change_nothing(
    root: FlaskClient, database: Database, invalid: dict[str, str], error: str
) -> None:
    root.get("/admin/settings")
    answer = root.post("/admin/settings", data=FORM | {"mode": "paused"} | invalid)
    assert answer.status_code == 422
    assert error in answer.text
    assert load_settings(database).mode == "auto"


def test_form_with_an_old_version_is_rejected(root: FlaskClient, database: Database) -> None:
    root.post("/admin/settings", data=FORM | {"max_parallel": "7"})
    answer = root.post("/admin/settings", data=FORM | {"max_parallel": "9"})
    assert answer.status_code == 409
    assert "Another operator changed the settings" in answer.text
    assert 'value="7"' in answer.text
    assert load_settings(database).max_parallel == 7


@pytest.mark.every_database
def test_node_is_drained_and_activated(root: FlaskClient, database: Database, scene: Scene) -> None:
    with database.transaction() as session:
        session.get_one(Node, scene.node).last_error = "connection <refused>"
    page = root.get("/admin/nodes").text
    assert "north" in page
    assert "connection &lt;refused&gt;" in page
    assert 'data-label="Bots">3</td>' in page
    for action, state in (("drain", NodeState.DRAINING), ("activate", NodeState.ACTIVE)):
        assert root.post(f"/admin/nodes/{scene.node}/{action}").status_code == 303
        with database.reading() as session:
            assert session.get_one(Node, scene.node).state is state
            assert session.query(Event).order_by(Event.id.desc()).first().tag == "node.changed"  # type: ignore[union-attr]
    assert root.post("/admin/nodes/nothing/drain").status_code == 404


@pytest.mark.every_database
def test_operator_restores_an_organization(
    app: Flask, root: FlaskClient, database: Database, cast: Cast, scene: Scene
) -> None:
    with database.transaction() as session:
        org = session.get_one(Org, cast.org_id)
        org_deletion.request_deletion(session, org, typed_name="Acme", actor=org.owner, now=utcnow())
    url = f"/admin/orgs/{cast.org_id}"
    assert "permanently deleted" in root.get(url).text
    assert root.post(f"{url}/restore").status_code == 303
    with database.reading() as session:
        assert session.get_one(Org, cast.org_id).state is OrgState.ACTIVE
        assert {bot.desired_state for bot in session.query(Bot)} == {DesiredState.RUNNING}
    jobs = open_queue(app.extensions["redis"], updates_queue_name(scene.node)).jobs
    assert [job.func_name for job in jobs] == ["daemon.jobs.apply_desired_state"] * 3
    assert root.post(f"{url}/restore").status_code == 409

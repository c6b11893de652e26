"""The operators' pages of nodes, of the fleet's settings, and taking a deletion back."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.database import Database
from portal.models import Bot, DesiredState, Event, FleetSettings, Node, NodeState, Org, OrgState, utcnow
from portal.queue import open_queue, updates_queue_name
from portal.services.orgs import org_deletion
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene

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
    "version": "1",
}


@pytest.fixture
def root(signed_in: SignedIn) -> FlaskClient:
    """The operator's browser."""
    return signed_in("root")


def stored(database: Database) -> FleetSettings:
    with database.reading() as session:
        return session.query(FleetSettings).one()


def test_the_fleet_s_settings_are_shown_and_saved(root: FlaskClient, database: Database) -> None:
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
    row = stored(database)
    assert (row.mode, row.max_parallel, row.tenant_mode, row.tenant_hour_utc) == ("manual", 5, "auto", 23)
    assert row.parameters["percentage"] == 40
    log = root.get("/admin/events?about=config").text
    assert "Settings of the fleet were changed" in log
    assert "<del>2</del>" in log
    assert "<ins>5</ins>" in log
    assert 'value="40"' in root.get("/admin/settings").text


def test_saving_what_is_stored_leaves_no_trace(root: FlaskClient, database: Database) -> None:
    root.get("/admin/settings")
    root.post("/admin/settings", data=FORM)
    version = stored(database).version
    with database.reading() as session:
        before = session.query(Event).count()
    assert root.post("/admin/settings", data=FORM | {"version": str(version)}).status_code == 303
    with database.reading() as session:
        assert session.query(Event).count() == before
    assert stored(database).version == version


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"percentage": "0"}, "from 1 to 100"),
        ({"pause_seconds": "soon"}, "Enter a whole number"),
        ({"max_parallel": "51"}, "from 1 to 50"),
        ({"mode": "asleep"}, "Choose one of those offered"),
        ({"strategy": "all_at_once"}, "Choose one of those offered"),
        ({"tenant_hour_utc": "24"}, "Choose one of those offered"),
    ],
)
def test_settings_that_make_no_sense_change_nothing(
    root: FlaskClient, database: Database, wrong: dict[str, str], said: str
) -> None:
    root.get("/admin/settings")
    answer = root.post("/admin/settings", data=FORM | {"mode": "paused"} | wrong)
    assert answer.status_code == 422
    assert said in answer.text
    assert stored(database).mode == "auto"


def test_a_form_from_before_somebody_else_s_change_is_shown_anew(root: FlaskClient, database: Database) -> None:
    root.post("/admin/settings", data=FORM | {"max_parallel": "7"})
    answer = root.post("/admin/settings", data=FORM | {"max_parallel": "9"})
    assert answer.status_code == 409
    assert "Somebody else changed" in answer.text
    assert 'value="7"' in answer.text
    assert stored(database).max_parallel == 7


def test_a_node_is_drained_and_takes_part_again(root: FlaskClient, database: Database, scene: Scene) -> None:
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


def test_a_deletion_is_taken_back_for_an_owner_who_cannot(
    app: Flask, root: FlaskClient, database: Database, cast: Cast, scene: Scene
) -> None:
    with database.transaction() as session:
        org = session.get_one(Org, cast.org_id)
        org_deletion.request_deletion(session, org, typed_name="Acme", actor=org.owner, now=utcnow())
    here = f"/admin/orgs/{cast.org_id}"
    assert "gone for good" in root.get(here).text
    assert root.post(f"{here}/restore").status_code == 303
    with database.reading() as session:
        assert session.get_one(Org, cast.org_id).state is OrgState.ACTIVE
        assert {bot.desired_state for bot in session.query(Bot)} == {DesiredState.RUNNING}
    jobs = open_queue(app.extensions["redis"], updates_queue_name(scene.node)).jobs
    assert [job.func_name for job in jobs] == ["daemon.jobs.apply_desired_state"] * 3
    assert root.post(f"{here}/restore").status_code == 409

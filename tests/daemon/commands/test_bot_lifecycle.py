"""`flotilla template`, and `flotilla bots create`, `retry`, `remove` and `restore`."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotPhase, BotTemplate, DesiredState, Event, Org, utcnow
from portal.services.bots import creation_progress
from tests import factories
from tests.daemon.conftest import Flotilla

pytestmark = pytest.mark.requests

REFUSED = 1
BAD_INPUT = 2
IMAGE = "registry.test/acme/bot:stable"


@pytest.fixture
def acme(database: Database) -> None:
    """The organization Acme and a node."""
    with database.transaction() as session:
        factories.org(session, factories.user(session))
        factories.node(session)


def load_template(database: Database) -> BotTemplate:
    """Return the template."""
    with database.reading() as session:
        return session.scalars(sa.select(BotTemplate)).one()


def load_bot(database: Database) -> Bot:
    """Return the only bot."""
    with database.reading() as session:
        return session.scalars(sa.select(Bot)).one()


@pytest.mark.every_database
def test_template_is_set_and_shown_without_secrets(flotilla: Flotilla, database: Database, tmp_path: Path) -> None:
    variables, key, agents = tmp_path / "env", tmp_path / "key", tmp_path / "agents"
    variables.write_text("TOKEN=s3cret-1\nURL=https://s3cret.example\n")
    key.write_text("s3cret-2\n")
    agents.write_text('[{"name": "writer"}]')
    limits = ("--memory-mb", "512", "--pids-limit", "100", "--capability", "cap_chown")
    files = ("--env-file", str(variables), "--api-key-file", str(key), "--agents-file", str(agents))
    result = flotilla(
        "template", "set", "--image", IMAGE, *limits, *files, "--hosted-env", "HOSTED=1", "--volume", "/state"
    )
    assert result.exit_code == 0, result.output
    stored = load_template(database)
    assert (stored.image, stored.memory_mb, stored.capabilities) == (IMAGE, 512, ["CHOWN"])
    assert (stored.volumes, stored.api_key, stored.agents) == (["/state"], "s3cret-2", [{"name": "writer"}])
    shown = flotilla("template", "show").output
    assert "TOKEN (set), URL (set)" in shown
    assert "HOSTED=1" in shown
    assert "s3cret" not in shown + result.output


def test_single_settings_are_changed_and_cleared(flotilla: Flotilla, database: Database) -> None:
    flotilla("template", "set", "--memory-mb", "512", "--env-file", "-", stdin="A=1\nB=2\n")
    result = flotilla("template", "set", "--memory-mb", "0", "--unset-env", "A", "--env-file", "-", stdin="C=3\n")
    assert result.exit_code == 0, result.output
    stored = load_template(database)
    assert (stored.memory_mb, stored.environment, stored.volumes) == (
        None,
        {"B": "2", "C": "3"},
        ["/data", "/paperclip"],
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--image", "evil.example/bot:1"), "FLEET_IMAGE_ALLOWLIST"),
        (("--port", "0", "--volume", "data"), "port: Enter a number from 1 to 65535"),
        (("--channel", "weekly"), "weekly"),
        (("--hosted-env", "no sign"), "NAME=value"),
        (("--create-for-new-orgs",), "Enter an image first"),
        ((), "Name at least one setting"),
    ],
)
def test_invalid_settings_change_nothing(
    flotilla: Flotilla, database: Database, arguments: tuple[str, ...], words: str
) -> None:
    result = flotilla("template", "set", *arguments)
    assert (result.exit_code, load_template(database).version) == (BAD_INPUT, 1)
    assert words in result.output


def test_file_that_is_not_json_is_refused(flotilla: Flotilla, tmp_path: Path) -> None:
    (tmp_path / "agents").write_text("[s3cret")
    result = flotilla("template", "set", "--agents-file", str(tmp_path / "agents"))
    assert result.exit_code == BAD_INPUT
    assert "s3cret" not in result.output


@pytest.mark.parametrize("option", ["--env-file", "--api-key-file", "--agents-file"])
def test_file_that_is_not_text_is_refused(flotilla: Flotilla, tmp_path: Path, option: str) -> None:
    (tmp_path / "binary").write_bytes(b"A=\xff\n")
    result = flotilla("template", "set", option, str(tmp_path / "binary"))
    assert (result.exit_code, "The file is not UTF-8 text." in result.output) == (BAD_INPUT, True)


@pytest.mark.every_database
def test_bot_is_created_by_a_worker_later(flotilla: Flotilla, database: Database, acme: None) -> None:
    flotilla("template", "set", "--image", IMAGE)
    result = flotilla("bots", "create", "--org", "acme", "--name", "Front desk", "--subdomain", "desk")
    bot = load_bot(database)
    assert result.output == f"Creating Front desk on node north. Its subdomain is desk, its id {bot.id}.\n"
    assert bot.phase is BotPhase.CREATING
    assert "creating" in flotilla("bots", "list").output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--org", "nowhere"), REFUSED, "There is no organization"),
        (("--org", "acme", "--node", "nowhere"), REFUSED, "There is no node"),
        (("--org", "acme", "--subdomain", "Not valid"), BAD_INPUT, "not a valid subdomain"),
    ],
)
@pytest.mark.usefixtures("acme")
def test_bot_that_cannot_be_created_is_refused(
    flotilla: Flotilla, arguments: tuple[str, ...], code: int, words: str
) -> None:
    flotilla("template", "set", "--image", IMAGE)
    result = flotilla("bots", "create", *arguments)
    assert (result.exit_code, words in result.output) == (code, True), result.output


def test_bot_without_template_or_free_node_is_refused(flotilla: Flotilla, database: Database) -> None:
    with database.transaction() as session:
        factories.org(session, factories.user(session))
    assert "has no image yet" in flotilla("bots", "create", "--org", "acme").output
    flotilla("template", "set", "--image", IMAGE)
    result = flotilla("bots", "create", "--org", "acme")
    assert (result.exit_code, "No active node has a free port" in result.output) == (REFUSED, True)


@pytest.mark.every_database
def test_failed_creation_is_retried(flotilla: Flotilla, database: Database, acme: None) -> None:
    flotilla("template", "set", "--image", IMAGE)
    flotilla("bots", "create", "--org", "acme")
    with database.transaction() as session:
        creation_progress.record_failure(session, load_bot(database).id, "no such image", utcnow())
    assert flotilla("bots", "retry", "acme").output == "Creating Acme again.\n"
    assert load_bot(database).creation_error is None


def test_removal_needs_a_choice_about_the_data(flotilla: Flotilla, database: Database, acme: None) -> None:
    with database.transaction() as session:
        org = session.scalars(sa.select(Org)).one()
        factories.bot(session, org, factories.node(session, "south"), name="desk", container_id="c" * 64)
    assert flotilla("bots", "remove", "desk").exit_code == BAD_INPUT
    assert load_bot(database).phase is BotPhase.ACTIVE
    result = flotilla("bots", "remove", "desk", "--delete-data")
    assert "Its data is deleted with it." in result.output
    assert (load_bot(database).phase, load_bot(database).desired_state) == (BotPhase.REMOVING, DesiredState.STOPPED)
    assert flotilla("bots", "remove", "desk", "--keep-data").exit_code == REFUSED
    assert flotilla("bots", "restore", "desk").output == "Restored desk.\n"
    assert load_bot(database).phase is BotPhase.ACTIVE
    assert "as soon as it has stopped" in flotilla("bots", "remove", "desk", "--keep-data", "--now").output
    assert flotilla("bots", "restore", "desk").exit_code == REFUSED


@pytest.mark.every_database
def test_bot_is_stopped_started_and_restarted_by_a_worker_later(
    flotilla: Flotilla, database: Database, acme: None
) -> None:
    with database.transaction() as session:
        org = session.scalars(sa.select(Org)).one()
        factories.bot(session, org, factories.node(session, "south"), name="desk", container_id="c" * 64)
    assert flotilla("bots", "restart", "desk", "--reason", "it hangs").output == "Restarting desk.\n"
    assert load_bot(database).restart_requested_at is not None
    with database.reading() as session:
        assert session.scalars(sa.select(Event).order_by(Event.id.desc()).limit(1)).one().data["note"] == "it hangs"
    assert flotilla("bots", "stop", "desk").output == "Stopping desk.\n"
    assert (load_bot(database).desired_state, load_bot(database).restart_requested_at) == (DesiredState.STOPPED, None)
    result = flotilla("bots", "stop", "desk")
    assert (result.exit_code, "already stopped" in result.output) == (REFUSED, True)
    assert flotilla("bots", "start", "desk").output == "Starting desk.\n"
    assert load_bot(database).desired_state is DesiredState.RUNNING
    assert flotilla("bots", "start", "nowhere").exit_code == REFUSED


@pytest.mark.every_database
def test_new_organization_gets_a_bot_when_the_template_says_so(flotilla: Flotilla, database: Database) -> None:
    flotilla("template", "set", "--image", IMAGE, "--create-for-new-orgs")
    result = flotilla("orgs", "create", "beta", "--name", "Beta", "--owner", "owner@beta.example")
    assert result.exit_code == 0, result.output
    with database.reading() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM bot_requests")) == 1

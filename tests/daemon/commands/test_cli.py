"""The `flotilla` command: nodes, bots, releases, rollouts, snapshots, doctor, and exit codes of errors."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa

from daemon.cli import main
from portal.database import Database
from portal.models import (
    Bot,
    BotUpdate,
    Event,
    Node,
    Org,
    PolledImage,
    Release,
    Rollout,
    RolloutState,
    Snapshot,
    SnapshotState,
    UpdateState,
    User,
    utcnow,
)
from portal.password_hashing import verify_password
from portal.queue import POLLS_QUEUE, connect, open_queue
from portal.settings import Settings
from tests import factories
from tests.daemon.conftest import Flotilla
from tests.daemon.rows import IMAGE, add_bot, add_node
from tests.support.outages import locked_database, suspended_commit

REFUSED = 1
BAD_INPUT = 2
PASSWORD = "correct horse battery"


def test_every_command_in_the_table_can_be_imported() -> None:
    context = click.Context(main)
    names = main.list_commands(context)
    assert [command.name for name in names if (command := main.get_command(context, name))] == names


def add_release(database: Database, character: str = "a", **values: Any) -> Release:
    """Add a release and let the image's tag point at it."""
    with database.transaction() as session:
        defaults: dict[str, Any] = {
            "repository": IMAGE.rpartition(":")[0],
            "image": IMAGE,
            "digest": "sha256:" + 64 * character,
        }
        release = factories.release(session, **{**defaults, "changelog": None, **values})
        row = session.scalar(sa.select(PolledImage).where(PolledImage.image == IMAGE)) or PolledImage(image=IMAGE)
        row.release_id = release.id
        row.next_poll_at = utcnow() + timedelta(hours=1)
        session.add(row)
    return release


def count_rows(database: Database, table: type[object]) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def load_rollout_state(database: Database, rollout_id: str) -> RolloutState:
    with database.reading() as session:
        return session.get_one(Rollout, rollout_id).state


def test_operator_is_created_with_password_from_standard_input(flotilla: Flotilla, database: Database) -> None:
    result = flotilla("admin", "create", "Olga@acme.test", "--name", "Olga", stdin=f"{PASSWORD}\n")

    assert result.exit_code == 0
    with database.reading() as session:
        user = session.scalars(sa.select(User)).one()
    assert user.is_platform_admin
    assert verify_password(user.password_hash, PASSWORD)
    assert PASSWORD not in result.output


def test_operator_is_created_with_password_from_a_file(
    flotilla: Flotilla, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    arguments = ("--name", "Olga", "--password-file", str(tmp_path / "password"))

    assert flotilla("admin", "create", "olga@acme.test", *arguments).exit_code == 0
    assert flotilla("admin", "create", "olga@acme.test", *arguments).exit_code == REFUSED
    assert count_rows(database, User) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("admin", "create", "olga@acme.test", "--name", "Olga"),  # the password is too short
        ("nodes", "add", "one", "--docker-url", "ftp://x", "--snapshot-dir", "/var/lib/snapshots"),
        ("nodes", "add", "one", "--docker-url", "unix:///x", "--snapshot-dir", "relative"),
        ("nodes", "add", "one", "--docker-url", "unix:///x", "--snapshot-dir", "/var/lib/s", "--ports", "many"),
        ("nodes", "add", "one", "--docker-url", "tcp://:bad", "--snapshot-dir", "/var/lib/s"),
        ("nodes", "add", "one", "--docker-url", "unix:///x", "--snapshot-dir", "/var/lib/s", "--bot-host", "x y"),
        ("orgs", "create", "www", "--name", "Acme", "--owner", "a@acme.test"),
        ("orgs", "create", "acme", "--name", " ", "--owner", "a@acme.test"),
        ("orgs", "create", "acme", "--name", "Acme", "--owner", "no-email"),
        ("releases", "check", "not an image"),
        ("releases", "check", "elsewhere.test/bot:1"),
        ("rollouts", "start", IMAGE, "--all", "--bot", "desk"),
        ("rollouts", "start", IMAGE, "--all", "--percentage", "0"),
        ("rollouts", "start", IMAGE, "--strategy", "hope"),
        ("rollouts", "abort", "x"),
        ("rollouts", "status", "--follow"),
    ],
)
def test_invalid_input_exits_with_2_and_changes_nothing(
    flotilla: Flotilla, database: Database, arguments: tuple[str, ...]
) -> None:
    add_release(database)
    add_bot(database, add_node(database))
    before = [count_rows(database, table) for table in (User, Node, Org, Rollout, PolledImage, Event)]

    result = flotilla(*arguments, stdin="short\n")

    assert result.exit_code == BAD_INPUT, result.output
    assert "Error: " in result.output
    assert [count_rows(database, table) for table in (User, Node, Org, Rollout, PolledImage, Event)] == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rollouts", "status", "nonsense"), "does not exist"),
        (("rollouts", "resume", "nonsense"), "does not exist"),
        (("rollouts", "start", "nonsense"), "flotilla releases list"),
        (("bots", "update", "nonsense"), "flotilla bots list"),
        (("releases", "check", "registry.test/other:1"), "no bot runs it"),
        (("releases", "quarantine", "nonsense", "--reason", "x"), "flotilla releases list"),
        (("nodes", "add", "one", "--docker-url", "tcp://127.0.0.1:1", "--snapshot-dir", "/var/lib/s"), "answer"),
    ],
)
def test_refused_operations_exit_with_1_and_say_what_to_do(
    flotilla: Flotilla, arguments: tuple[str, ...], words: str
) -> None:
    result = flotilla(*arguments)

    assert result.exit_code == REFUSED, result.output
    assert words in result.output
    assert len(result.output.splitlines()) == 1


def test_invalid_settings_exit_with_2(flotilla: Flotilla, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_URL", "nowhere")

    result = flotilla("nodes", "list")

    assert result.exit_code == BAD_INPUT
    assert "BASE_URL" in result.output


def test_error_for_missing_tables_names_the_migration_command(
    flotilla: Flotilla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")

    result = flotilla("nodes", "list")

    assert result.exit_code == REFUSED
    assert "db upgrade" in result.output


def test_organizations_are_created_and_listed(flotilla: Flotilla) -> None:
    assert flotilla("orgs", "create", "acme", "--name", "Acme Paper", "--owner", "ada@acme.test").exit_code == 0
    assert flotilla("orgs", "create", "acme", "--name", "Other", "--owner", "bob@acme.test").exit_code == REFUSED

    listing = flotilla("orgs", "list").output

    assert "Acme Paper" in listing
    assert "ada@acme.test" in listing
    assert "bob@acme.test" not in listing


def test_rollout_is_started_paused_resumed_and_aborted(flotilla: Flotilla, database: Database) -> None:
    add_bot(database, add_node(database))
    release = add_release(database)

    started = flotilla("rollouts", "start", IMAGE, "--all", "--now", "--percentage", "50", "--json")
    assert started.exit_code == 0, started.output
    described = json.loads(started.output)
    assert described["digest"] == release.digest
    assert described["total"] == 1
    rollout_id = described["id"]
    with database.reading() as session:
        rollout = session.get_one(Rollout, rollout_id)
    assert rollout.parameters["percentage"] == 50
    assert rollout.ignore_windows

    assert flotilla("rollouts", "pause", rollout_id, "--reason", "lunch").exit_code == 0
    assert load_rollout_state(database, rollout_id) is RolloutState.PAUSED
    assert "lunch" in flotilla("rollouts", "status", rollout_id).output
    assert flotilla("rollouts", "pause", rollout_id).exit_code == REFUSED
    assert flotilla("rollouts", "resume", rollout_id).exit_code == 0
    assert load_rollout_state(database, rollout_id) is RolloutState.RUNNING
    assert flotilla("rollouts", "abort", rollout_id, "--reason", "bad", "--quarantine").exit_code == 0
    assert load_rollout_state(database, rollout_id) is RolloutState.ABORTED

    assert rollout_id in flotilla("rollouts", "status").output
    again = flotilla("rollouts", "start", release.id, "--all")
    assert again.exit_code == REFUSED
    assert "quarantined (bad). Lift the quarantine first." in again.output


def test_refused_image_names_the_setting(
    flotilla: Flotilla, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bot(database, add_node(database))
    monkeypatch.setenv("FLEET_IMAGE_ALLOWLIST", "other.test")
    release = add_release(database)

    result = flotilla("rollouts", "start", release.id, "--all")

    assert result.exit_code == BAD_INPUT
    assert "FLEET_IMAGE_ALLOWLIST admits other.test" in result.output


def test_following_a_rollout_without_any_update_fails(flotilla: Flotilla, database: Database) -> None:
    add_bot(database, add_node(database))
    add_release(database)
    rollout_id = json.loads(flotilla("rollouts", "start", IMAGE, "--all", "--json").output)["id"]
    flotilla("rollouts", "abort", rollout_id, "--reason", "second thoughts")

    result = flotilla("rollouts", "status", rollout_id, "--follow")

    assert result.exit_code == REFUSED
    assert "aborted" in result.output
    assert "second thoughts" in result.output


def test_following_an_aborted_rollout_fails(flotilla: Flotilla, database: Database) -> None:
    node = add_node(database)
    for name in ("desk", "shelf"):
        add_bot(database, node, name=name)
    add_release(database)
    rollout_id = json.loads(flotilla("rollouts", "start", IMAGE, "--all", "--json").output)["id"]
    with database.transaction() as session:
        session.scalars(sa.select(BotUpdate)).first().state = UpdateState.UPDATED  # type: ignore[union-attr]
    flotilla("rollouts", "abort", rollout_id, "--reason", "second thoughts")

    assert flotilla("rollouts", "status", rollout_id, "--follow").exit_code == REFUSED


def test_starting_a_rollout_without_bots_is_refused(flotilla: Flotilla, database: Database) -> None:
    add_release(database)

    assert flotilla("rollouts", "start", IMAGE, "--all").exit_code == REFUSED
    assert count_rows(database, Rollout) == 0


def test_bot_is_updated_by_name(flotilla: Flotilla, database: Database) -> None:
    add_bot(database, add_node(database), name="desk")
    release = add_release(database)

    result = flotilla("bots", "update", "desk")

    assert result.exit_code == 0, result.output
    assert release.version in result.output
    assert count_rows(database, Rollout) == 1
    assert release.version in flotilla("bots", "list").output


def test_attaching_a_container_needs_a_reachable_node(flotilla: Flotilla, database: Database) -> None:
    add_bot(database, add_node(database, docker_url="tcp://127.0.0.1:9"), name="desk")

    result = flotilla("bots", "attach", "desk", "desk-again")

    assert result.exit_code == REFUSED
    assert "does not answer" in result.output
    assert flotilla("bots", "attach", "missing", "desk-again").exit_code == REFUSED


def test_repaired_bot_is_cleared(flotilla: Flotilla, database: Database) -> None:
    desk = add_bot(database, add_node(database), name="desk")
    with database.transaction() as session:
        session.get_one(Bot, desk.id).needs_attention = "docker start 1234"
    assert "needs attention" in flotilla("bots", "list").output

    result = flotilla("bots", "clear", "desk", "--reason", "restored by hand")

    assert result.exit_code == 0, result.output
    assert "needs attention" not in flotilla("bots", "list").output
    again = flotilla("bots", "clear", "desk", "--reason", "restored by hand")
    assert again.exit_code == REFUSED
    assert "does not need attention" in again.output


def test_release_is_quarantined_by_version_and_lifted_by_digest(flotilla: Flotilla, database: Database) -> None:
    add_release(database, changelog={"version": "1.2.0", "date": "2026-01-01", "sections": []})

    assert flotilla("releases", "quarantine", "1.2.0", "--reason", "eats data").exit_code == 0
    assert "eats data" in flotilla("releases", "list").output
    assert flotilla("releases", "lift", "sha256:aaaaaaaa", "--reason", "was the disk").exit_code == 0
    assert flotilla("releases", "lift", "1.2.0", "--reason", "again").exit_code == REFUSED


def test_ambiguous_version_is_refused(flotilla: Flotilla, database: Database) -> None:
    for character in "ab":
        add_release(database, character, changelog={"version": "1.2.0", "date": "2026-01-01", "sections": []})

    result = flotilla("releases", "quarantine", "1.2.0", "--reason", "bad")

    assert result.exit_code == REFUSED
    assert "Several" in result.output


def test_checking_an_image_enqueues_a_poll(
    flotilla: Flotilla, database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    add_release(database)
    add_bot(database, add_node(database))

    result = flotilla("releases", "check", IMAGE)

    assert result.exit_code == 0, result.output

    (job,) = open_queue(connect(redis_url), POLLS_QUEUE).jobs
    assert (job.func_name, job.args) == ("daemon.jobs.poll_image", [IMAGE])


@pytest.mark.parametrize(
    "arguments",
    [
        ("orgs", "list"),
        ("orgs", "create", "acme", "--name", "Acme", "--owner", "a@acme.test"),
        ("releases", "quarantine", IMAGE, "--reason", "bad"),
        ("bots", "list"),
        ("doctor",),
    ],
)
def test_locked_database_is_reported_in_one_sentence(
    flotilla: Flotilla,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setattr("portal.database.WAIT_SECONDS", 0.1)
    database.dispose()
    with locked_database(settings.database_url):
        result = flotilla(*arguments)

    assert result.exit_code == REFUSED
    assert "The database is locked" in result.output or "database: cannot be used" in result.output
    assert len(result.output.splitlines()) == 1 or arguments == ("doctor",)
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Org)) == 0


HOSTILE_ARGUMENTS = [
    ("admin", "create", "{}@acme.test", "--name", "Olga"),
    ("admin", "create", "olga@acme.test", "--name", "{}"),
    ("bots", "adopt", "{}", "--org", "acme", "--node", "one"),
    ("bots", "clear", "{}", "--reason", "fixed"),
    ("nodes", "add", "{}", "--docker-url", "unix:///x", "--snapshot-dir", "/var/lib/snapshots"),
    ("nodes", "add", "one", "--docker-url", "unix:///{}", "--snapshot-dir", "/var/lib/snapshots"),
    ("nodes", "add", "one", "--docker-url", "unix:///x", "--snapshot-dir", "/var/lib/{}"),
    ("nodes", "remove", "{}"),
    ("orgs", "create", "acme", "--name", "{}", "--owner", "a@acme.test"),
    ("orgs", "create", "acme", "--name", "Acme", "--owner", "{}@acme.test"),
    ("releases", "check", "registry.test/{}:1"),
    ("releases", "quarantine", "{}", "--reason", "bad"),
    ("rollouts", "start", "registry.test/{}:1", "--all"),
    ("rollouts", "status", "{}"),
    ("snapshots", "delete", "{}"),
    ("users", "disable", "{}"),
]


@pytest.mark.parametrize("arguments", HOSTILE_ARGUMENTS, ids=" ".join)
@pytest.mark.parametrize(
    "character", ["\0", "\udcff", "a\nb", "\x1b[2J", "\u202e", "x" * 100_000, "'\"%s{{", "9" * 40]
)
def test_hostile_argument_is_refused_in_one_line(
    flotilla: Flotilla, database: Database, arguments: tuple[str, ...], character: str
) -> None:
    before = {table: count_rows(database, table) for table in (Org, User, Node, Rollout)}

    result = flotilla(*(argument.replace("{}", character) for argument in arguments), stdin=f"{PASSWORD}\n")

    if character in {"\0", "\udcff"}:
        assert result.exit_code == BAD_INPUT
        assert result.output == "Error: An argument is not valid UTF-8 text. Check the encoding of your terminal.\n"
    if result.exit_code == 0:
        assert "\x1b" not in result.output
        return
    assert result.exit_code in {REFUSED, BAD_INPUT}
    assert "Unexpected" not in result.output
    assert not {"\0", "\udcff", "\x1b", "\u202e"} & set(result.output)
    assert before == {table: count_rows(database, table) for table in before}


@pytest.mark.slow
def test_process_suspended_in_a_commit_is_reported_in_one_sentence(
    flotilla: Flotilla, settings: Settings, database: Database
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL serves each process apart")
    file = Path(str(sa.make_url(settings.database_url).database))
    count_rows(database, Org)  # the connection stays open
    with suspended_commit(file):
        result = flotilla("orgs", "list")

    assert result.exit_code == REFUSED
    assert result.output.startswith("Error: The database is locked")


def test_doctor_reports_missing_parts(flotilla: Flotilla, database: Database) -> None:
    add_node(database, docker_url="tcp://127.0.0.1:1")

    result = flotilla("doctor")

    assert result.exit_code == 1
    for line in ("ok      database", "FAILED  redis", "FAILED  mail", "FAILED  scheduler", "FAILED  engine one"):
        assert line in result.output


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({}, "ok      proxy: not needed"),
        ({"BASE_URL": "http://portal.example"}, "FAILED  proxy: BASE_URL is not https"),
        ({"BIND_ADDRESS": "0.0.0.0"}, "FAILED  proxy: BASE_URL is not https"),
        ({"BASE_URL": "https://portal.example"}, "FAILED  proxy: BASE_URL is https, so a TLS proxy is expected"),
        (
            {"BASE_URL": "https://portal.example", "TRUSTED_PROXIES": "1"},
            "ok      proxy: 1 expected, which should buffer requests\n",
        ),
        (
            {"BASE_URL": "https://portal.example", "TRUSTED_PROXIES": "2", "BIND_ADDRESS": "0.0.0.0"},
            "ok      proxy: 2 expected, which should buffer requests; let only the proxy connect",
        ),
    ],
)
def test_doctor_tells_which_proxy_is_expected(
    flotilla: Flotilla, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert line in flotilla("doctor").output


def test_doctor_checks_the_permissions_of_the_data_folder(flotilla: Flotilla, settings: Settings) -> None:
    assert f"ok      data folder: only this account can open {settings.data_dir}" in flotilla("doctor").output


def test_doctor_skips_registries_of_requested_digests(flotilla: Flotilla, database: Database) -> None:
    with database.transaction() as session:
        session.add(PolledImage(image=f"127.0.0.1:1/acme/bot@sha256:{'0' * 64}", errors=1))

    assert "registry 127.0.0.1:1" not in flotilla("doctor").output


def test_engine_can_be_added_as_one_node_only(flotilla: Flotilla, database: Database, docker_url: str) -> None:
    engine = ("--docker-url", docker_url, "--snapshot-dir", "/var/lib/snapshots")
    assert flotilla("nodes", "add", "here", *engine).exit_code == 0

    again = flotilla("nodes", "add", "there", *engine)
    assert again.exit_code == REFUSED
    assert "already is the node here" in again.output

    assert flotilla("nodes", "remove", "here").exit_code == 0
    assert flotilla("nodes", "add", "there", *engine).exit_code == 0


def test_error_for_an_unreachable_engine_names_the_node(flotilla: Flotilla) -> None:
    result = flotilla("nodes", "add", "mars", "--docker-url", "tcp://127.0.0.1:1", "--snapshot-dir", "/var/lib/s")

    assert "of node mars" in result.output


def test_node_with_bots_cannot_be_removed(flotilla: Flotilla, database: Database) -> None:
    add_bot(database, add_node(database))

    result = flotilla("nodes", "remove", "one")

    assert result.exit_code == REFUSED
    assert "while it has bots: desk" in result.output
    assert count_rows(database, Node) == 1


def test_snapshots_that_still_exist_are_listed(flotilla: Flotilla, database: Database) -> None:
    node = add_node(database)
    bot = add_bot(database, node)
    release = add_release(database)
    with database.transaction() as session:
        rollout = factories.rollout(session, release)
        update = factories.update(session, rollout, bot, state=UpdateState.NEEDS_ATTENTION)
        for volume, state in (("data", SnapshotState.VERIFIED), ("cache", SnapshotState.DELETED)):
            archive = f"/snapshots/{volume}.tar"
            row = Snapshot(update_id=update.id, node_id=node.id, volume=volume, archive=archive, state=state)
            session.add(row)

    listed = flotilla("snapshots", "list").output

    assert "/snapshots/data.tar" in listed
    assert "cache" not in listed
    refused = flotilla("snapshots", "delete", "missing")
    assert refused.exit_code == REFUSED
    assert "flotilla snapshots list" in refused.output

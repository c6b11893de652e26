"""The logs of bots from a real engine: what a hostile bot writes, secrets, and logs that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.types import LogConfig
from redis import Redis

from daemon.bots import bot_logs
from portal import live_readings
from portal.database import Database
from portal.live_readings import Reading
from portal.models import Bot, Node, NodeState
from tests import factories
from tests.daemon.conftest import Flotilla

SECRET = "s3cret-of-the-bot"
PROVISION_SECRET = "s3cret-of-flotilla"
ENVIRONMENT = {"API_TOKEN": SECRET, "MODE": "production", "DB": "postgres://bot:hunter22@db/x"}
# The engine splits a line after 16 KB, here in the middle of the secret.
SCRIPT = r"""
printf 'token %s mode %s\n' "$API_TOKEN" "$MODE"
printf 'oops hunter22 s3cret-of-flotilla\n' >&2
printf 's3cret-\033[0mof-the-bot \033]0;title\007\033[2Jclear\n'
printf 'binary \377\001 <script>alert(1)</script>\n'
head -c 16376 /dev/zero | tr '\0' x; printf '%s\n' "$API_TOKEN"
printf 'progress 1\rprogress 2\n'
printf 'the end'
"""

Run = Callable[..., str]


@pytest.fixture
def run(
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str], database: Database, docker_url: str
) -> Iterator[Run]:
    """Return a function that runs a script as a bot, and returns the bot's id."""
    started = []

    def run(script: str, **options: Any) -> str:
        container = engine.create_container(
            snapshot_image, ["sh", "-c", script], environment=ENVIRONMENT, labels=run_labels, **options
        )["Id"]
        started.append(container)
        engine.start(container)
        engine.wait(container)
        with database.transaction() as session:
            org = factories.org(session, factories.user(session))
            node = factories.node(session, docker_url=docker_url)
            secret = {"current": PROVISION_SECRET, "next": None}
            return factories.bot(session, org, node, name="desk", container_id=container, provision_secret=secret).id

    yield run
    for container in started:
        engine.remove_container(container, force=True, v=True)


def read(database: Database, redis_url: str, bot_id: str, reading: Reading = Reading.LOG) -> dict[str, Any]:
    """Read the log of a bot as the job does, and return what the portal gets."""
    with Redis.from_url(redis_url) as redis:
        bot_logs.read_for_page(database, redis, bot_id, reading)
        raw = redis.get(f"flotilla:reading:{reading}:{bot_id}")
        assert isinstance(raw, bytes)
        assert b"s3cret" not in raw
        assert b"hunter22" not in raw
        found = live_readings.load(redis, reading, bot_id)
        assert found is not None
        return found


def test_log_of_a_hostile_bot_has_no_secrets_and_nothing_that_a_terminal_obeys(
    run: Run, database: Database, redis_url: str, flotilla: Flotilla
) -> None:
    bot_id = run(SCRIPT)
    for reading in (Reading.LOG, Reading.LONG_LOG):
        log = read(database, redis_url, bot_id, reading)
        lines = {text: is_error for _, is_error, text in log["lines"]}
        assert log["error"] is None
        assert all(at.startswith("20") for at, _, _ in log["lines"])
        assert lines["token *** mode production"] is False
        assert lines["oops *** ***"] is True
        assert "*** ]0;titleclear" in lines
        assert "binary \ufffd <script>alert(1)</script>" in lines
        assert "x" * 8000 in lines, "a long line is cut"
        assert "progress 1 progress 2" in lines
        assert log["lines"][-1][2] == "the end"

    printed = flotilla("bots", "logs", "desk", "--lines", "2")
    assert (printed.exit_code, printed.output.splitlines()[-1].endswith(" the end")) == (0, True)
    assert "s3cret" not in flotilla("bots", "logs", "desk").output


def test_log_of_a_terminal_is_read_without_times(run: Run, database: Database, redis_url: str) -> None:
    log = read(database, redis_url, run('echo "$API_TOKEN"; echo two', tty=True))
    assert [tuple(line) for line in log["lines"]] == [(None, False, "***"), (None, False, "two")]


def test_log_that_cannot_be_read_has_a_reason(
    run: Run, database: Database, redis_url: str, engine: docker.APIClient, flotilla: Flotilla
) -> None:
    unreadable = run("echo 1", host_config=engine.create_host_config(log_config=LogConfig(type="none")))
    assert "does not support reading" in read(database, redis_url, unreadable)["error"]
    with database.transaction() as session:
        bot = session.get_one(Bot, unreadable)
        bot.container_id = "f" * 64
    assert read(database, redis_url, unreadable)["error"] == "The bot has no container"
    with database.transaction() as session:
        session.query(Node).one().state = NodeState.OFFLINE
    assert "does not answer" in read(database, redis_url, unreadable)["error"]
    with database.transaction() as session:
        node = session.query(Node).one()
        node.state, node.docker_url = NodeState.ACTIVE, "unix:///nowhere/docker.sock"
    assert "does not answer" in read(database, redis_url, unreadable)["error"]
    failed = flotilla("bots", "logs", "desk")
    assert (failed.exit_code, "does not answer" in failed.output) == (1, True)
    assert read(database, redis_url, "no such bot")["error"] == "This bot does not exist."

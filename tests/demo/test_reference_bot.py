"""Tests of the reference bot in containers: each release shows its behaviour."""

import json
import time

import pytest

from demo import versions
from tests.demo.bot_containers import BotRunner
from tests.demo.reference_bot.local_bots import ALICE, BOB, SECRET, identity

pytestmark = [pytest.mark.docker, pytest.mark.registry]

AS_ALICE = identity(ALICE)


@pytest.mark.parametrize("version", [versions.FIRST, versions.SLOW, versions.WITHOUT_CHANGELOG])
def test_good_release_is_healthy_and_stops_on_request(bots: BotRunner, version: versions.BotVersion) -> None:
    bot = bots.start(version)
    status, body = bot.call("/health")
    assert (status, json.loads(body)) == (200, {"status": "ok", "version": version.version})
    assert bot.stop() == 0


def test_notes_survive_a_new_release(bots: BotRunner) -> None:
    old = bots.start(versions.FIRST)
    status, page = old.call("/notes", form={"text": "water <the> plants"})
    assert status == 200
    assert "water &lt;the&gt; plants" in page
    old.stop()
    new = bots.start(versions.SECOND)
    assert json.loads(new.call("/notes")[1]) == {"notes": ["water <the> plants"]}


def test_migrated_notes_are_readable_by_an_older_release(bots: BotRunner) -> None:
    bots.start(versions.FIRST).call("/notes", form={"text": "old"})
    migrated = bots.start(versions.MIGRATING)
    migrated.call("/notes", form={"text": "new"})
    assert json.loads(migrated.call("/notes")[1]) == {"notes": ["old", "new"]}
    migrated.stop()
    older = bots.start(versions.THIRD)
    older.call("/notes", form={"text": "newer"})
    assert json.loads(older.call("/notes")[1]) == {"notes": ["old", "new", "newer"]}


def test_slow_migration_answers_503_until_it_is_done(bots: BotRunner) -> None:
    bot = bots.start(versions.SLOW_MIGRATION)
    while "listening" not in bot.read_logs():
        time.sleep(0.1)
    assert bot.client.send("GET", "/health").result == (503, {"status": "migrating"})
    assert json.loads(bot.call("/health")[1])["status"] == "ok"


def test_members_survive_a_new_release_and_a_migration(bots: BotRunner) -> None:
    settings = {"HOSTED_MODE": "1", "PROVISION_SECRET": SECRET}
    old = bots.start(versions.FIRST, **settings)
    old.call("/health")
    company = old.client.provision()
    old.client.add(company, BOB, "admin", version=3)
    old.stop()
    for version in (versions.SECOND, versions.MIGRATING, versions.THIRD):
        bot = bots.start(version, **settings)
        assert bot.call("/health")[0] == 200
        assert bot.client.roles(company) == {ALICE["id"]: "owner", BOB["id"]: "admin"}
        assert bot.client.remove(company, BOB, version=2)[0] == 409
        bot.stop()


def test_unhealthy_release_answers_503(bots: BotRunner) -> None:
    status, body = bots.start(versions.UNHEALTHY).call("/health")
    assert status == 503
    assert json.loads(body)["status"] == "error"


def test_crashing_release_exits_with_an_error_message(bots: BotRunner) -> None:
    bot = bots.start(versions.CRASHING)
    assert bot.wait_for_exit_code() == 1
    assert "MAXIMUM_PATIENCE" in bot.read_logs()


def test_corrupting_release_destroys_the_data(bots: BotRunner) -> None:
    good = bots.start(versions.FIRST)
    good.call("/notes", form={"text": "precious"})
    good.stop()
    bad = bots.start(versions.CORRUPTING)
    assert bad.call("/health")[0] == 503
    bad.stop()
    after = bots.start(versions.SECOND)
    assert after.wait_for_exit_code() == 1
    assert "file is not a database" in after.read_logs()


def test_hosted_bot_refuses_requests_without_identity(bots: BotRunner) -> None:
    bot = bots.start(versions.FIRST, HOSTED_MODE="1", PROVISION_SECRET=SECRET)
    assert bot.call("/health")[0] == 200
    assert bot.call("/", headers=AS_ALICE)[0] == 403
    bot.client.provision()
    assert bot.call("/")[0] == 403
    assert bot.call("/notes")[0] == 403
    assert bot.call("/notes", form={"text": "intruder"})[0] == 403
    status, page = bot.call("/", headers=AS_ALICE)
    assert status == 200
    assert "Hello, Alice Zoë &lt;alice@example.org&gt;." in page
    assert json.loads(bot.call("/notes", headers=AS_ALICE)[1]) == {"notes": []}

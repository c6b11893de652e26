"""`flotilla bots recover`: confirmation, message for the worker, result, refusal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import Bot, BotUpdate, Event, UpdateState, Verdict, utcnow
from portal.queue import connect, open_queue, updates_queue_name
from portal.services.rollouts import outcomes
from portal.services.rollouts.outcomes import Outcome
from tests import factories
from tests.daemon.conftest import Flotilla
from tests.daemon.rows import add_bot, add_node

REFUSED = 1


@pytest.fixture
def update_id(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An update of the bot "desk" whose rollback failed."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    desk = add_bot(database, add_node(database))
    with database.transaction() as session:
        bot = session.get_one(Bot, desk.id)
        rollout = factories.rollout(session, factories.release(session))
        update = factories.update(session, rollout, bot, state=UpdateState.NEEDS_ATTENTION, ended_at=utcnow())
        update.verdict, update.old_container_id = Verdict.FAILED, bot.container_id
        bot.needs_attention = "docker start 1234"
        return update.id


def load(database: Database, update_id: str) -> BotUpdate:
    """Return the update."""
    with database.reading() as session:
        return session.get_one(BotUpdate, update_id)


def test_rollback_is_continued_by_a_worker(
    flotilla: Flotilla, database: Database, redis_url: str, update_id: str
) -> None:
    result = flotilla("bots", "recover", "desk", "--yes")
    assert (result.exit_code, result.output) == (0, "Continuing the rollback of desk.\n")
    assert load(database, update_id).state is UpdateState.RUNNING
    with database.reading() as session:
        node = session.scalars(sa.select(Bot.node_id)).one()
        event = session.scalars(sa.select(Event).where(Event.tag == "bot.recovery_requested")).one()
    assert event.data["via"] == "command line"
    (job,) = open_queue(connect(redis_url), updates_queue_name(node)).jobs
    assert (job.func_name, job.args) == ("daemon.jobs.update_bot", [update_id])

    again = flotilla("bots", "recover", "desk", "--yes")
    assert again.exit_code == REFUSED
    assert "is being continued already" in again.output


def test_rollback_is_continued_only_after_a_confirmation(
    flotilla: Flotilla, database: Database, update_id: str
) -> None:
    result = flotilla("bots", "recover", "desk", stdin="n\n")
    assert result.exit_code == REFUSED
    assert "what was written since is lost" in result.output
    assert load(database, update_id).state is UpdateState.NEEDS_ATTENTION


def roll_back(update: BotUpdate) -> None:
    """Complete the rollback, as a worker does."""
    session = sa.inspect(update).session
    assert session is not None
    rolled_back = Outcome(state=UpdateState.ROLLED_BACK)
    outcomes.mark_rolled_back(session, update, rolled_back, "c" * 64, None, answers=True, now=utcnow())


def fail_again(update: BotUpdate) -> None:
    """Fail to complete the rollback, as a worker does."""
    session = sa.inspect(update).session
    assert session is not None
    outcomes.mark_needs_attention(session, update, "failed", "the archive is missing", utcnow())


@pytest.mark.parametrize(
    ("end", "exit_code", "words"),
    [(roll_back, 0, "desk was recovered"), (fail_again, REFUSED, "the archive is missing")],
)
def test_follow_shows_the_result(  # noqa: PLR0917 - fixtures come by name
    flotilla: Flotilla,
    database: Database,
    update_id: str,
    end: Callable[[BotUpdate], None],
    exit_code: int,
    words: str,
) -> None:
    def work() -> None:
        while load(database, update_id).state is not UpdateState.RUNNING:
            time.sleep(0.02)
        with database.transaction() as session:
            end(session.get_one(BotUpdate, update_id))

    worker = threading.Thread(target=work)
    worker.start()
    result = flotilla("bots", "recover", "desk", "--yes", "--follow")
    worker.join()
    assert result.exit_code == exit_code, result.output
    assert words in result.output

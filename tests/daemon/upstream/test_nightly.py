"""The nightly job: when a sync is due, who runs it, and what is recorded, logged and mailed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
import sqlalchemy as sa

from daemon.context import Context
from daemon.scheduler import Scheduler
from daemon.upstream import nightly
from portal.database import Database
from portal.models import Event, ForkSync, ForkSyncState, Org, OutgoingMail
from portal.queue import DOWNLOADS_QUEUE, connect, open_queue
from portal.services import fork_syncs, retention
from portal.services.audit import sentences
from portal.settings import Settings
from tests import factories
from tests.daemon.upstream.forge import TOKEN, Forge, running_forge
from tests.daemon.upstream.repos import World
from tests.support.mail import Mailbox
from tests.support.outbox import OutboxWorker, bodies

SIX = time(6)
MORNING = datetime(2026, 3, 14, 6, 0, 30, tzinfo=UTC)


@dataclass
class Night:
    """A fork, a database with the operator root, and the clock."""

    world: World
    database: Database
    settings: Settings
    now: datetime = MORNING

    def run(self) -> ForkSync:
        """Run the job and return the newest sync."""
        nightly.sync_fork(self.database, self.settings, lambda: self.now)
        return self.syncs()[0]

    def syncs(self) -> list[ForkSync]:
        """Return all syncs, newest first."""
        with self.database.reading() as session:
            return list(fork_syncs.list_recent(session))

    def events(self) -> list[str]:
        """Return the sentences of all events."""
        names = sentences.Names({}, {}, dict[str, Org]())
        with self.database.reading() as session:
            return [
                sentences.describe(event, names) for event in session.scalars(sa.select(Event).order_by(Event.id))
            ]

    def mails(self) -> list[OutgoingMail]:
        """Return all mails."""
        with self.database.reading() as session:
            return list(session.scalars(sa.select(OutgoingMail)))


def read(message: EmailMessage) -> tuple[str, str]:
    """Return text and HTML of a mail without the invisible characters that keep names from becoming links."""
    text, html = bodies(message)
    return text.replace("\u2060", ""), html.replace("\u2060", "")


@pytest.fixture
def night(world: World, database: Database, settings: Settings) -> Night:
    """The morning of a night in which upstream has something new."""
    world.upstream.commit("feat: add dark theme", {"a": "1"})
    with database.transaction() as session:
        factories.user(session, "root", is_platform_admin=True)
        factories.user(session, "alice")
    return Night(world, database, replace(settings, upstream=replace(settings.upstream, repo=world.fork.path)))


@pytest.fixture
def forge(night: Night) -> Iterator[Forge]:
    """A forge where the job opens its pull request."""
    fork = night.world.fork
    fork.git("remote", "set-url", "origin", "https://github.com/acme/bot.git")
    fork.git("config", f"url.{night.world.origin.path}.insteadOf", "https://github.com/acme/bot.git")
    with running_forge() as running:
        upstream = replace(night.settings.upstream, forge_token=TOKEN, forge_api=running.url)
        night.settings = replace(night.settings, upstream=upstream)
        yield running


def test_a_sync_is_recorded_with_its_pull_request(night: Night, forge: Forge) -> None:
    sync = night.run()
    assert (sync.state, sync.finished_at) == (ForkSyncState.SYNCED, MORNING)
    assert sync.report["version"] == "2026-03-14"
    assert sync.report["pull_request"]["number"] == 1
    assert [pull["head"] for pull in forge.pulls] == ["flotilla/upstream"]
    url = "https://forge.example/acme/bot/pull/1"
    assert night.events() == [f"The fork was synced with upstream: changelog 2026-03-14, pull request {url}"]
    assert night.mails() == []


def test_without_a_token_the_branch_is_pushed(night: Night) -> None:
    assert night.run().report["pushed"] == "origin/flotilla/upstream"
    assert night.world.origin.rev("flotilla/upstream")


def test_nothing_new_is_recorded_without_an_event(night: Night) -> None:
    night.run()
    night.world.merge_proposal()
    night.now += timedelta(days=1)
    assert night.run().state is ForkSyncState.UP_TO_DATE
    assert len(night.events()) == 1


def test_a_conflict_is_mailed_to_operators_once(night: Night, mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    night.world.fork.commit("feat: <b>own</b> start", {"server/index.js": "ours();\n"})
    night.world.fork.git("push", "--quiet", "origin", "main")
    night.world.upstream.commit("feat: their start", {"server/index.js": "theirs();\n"})
    assert night.run().state is ForkSyncState.CONFLICT
    night.now += timedelta(days=1)
    assert night.run().state is ForkSyncState.CONFLICT
    assert [mail.to for mail in night.mails()] == ["root@example.com"]
    sentence = "The fork's commit feat: <b>own</b> start (Frida Fork) conflicts with upstream in server/index.js"
    assert night.events() == [sentence, sentence]
    mail_worker.send_due(night.now + timedelta(days=365))
    (message,) = smtp.messages
    assert message["Subject"] == "The bot's fork conflicts with upstream"
    text, html = read(message)
    assert "server/index.js" in text
    assert "/admin/upstream" in text
    assert "<b>own</b>" not in html


def test_new_findings_are_mailed_and_known_ones_are_not(
    night: Night, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    night.world.upstream.commit("feat: form", {"ui/src/Form.tsx": "adapterType\n"})
    assert night.run().state is ForkSyncState.SYNCED
    night.now += timedelta(days=1)
    night.run()
    night.world.merge_proposal()
    night.world.upstream.commit("fix: crash on logout", {"b": "1"})
    night.now += timedelta(days=1)
    assert [finding["path"] for finding in night.run().report["scan"]["known"]] == ["ui/src/Form.tsx"]
    assert len(night.mails()) == 1
    mail_worker.send_due(night.now + timedelta(days=365))
    (message,) = smtp.messages
    assert message["Subject"] == "The bot's fork has user interface to hide"
    assert "in 1 place: ui/src/Form.tsx" in " ".join(read(message)[0].split())


def test_a_refusal_is_recorded_and_mailed_without_secrets(
    night: Night, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    night.world.fork.git("remote", "set-url", "upstream", "https://user:hunter2@127.0.0.1:1/bot.git")
    sync = night.run()
    assert sync.state is ForkSyncState.REFUSED
    assert "git fetch failed" in (sync.error or "") or "ls-remote failed" in (sync.error or "")
    mail_worker.send_due(night.now + timedelta(days=365))
    (message,) = smtp.messages
    assert message["Subject"] == "The bot's fork was not synced with upstream"
    assert all("hunter2" not in text for text in (*bodies(message), *night.events(), str(sync.error)))


def test_a_missing_repository_is_a_refusal(night: Night, tmp_path: Path) -> None:
    night.settings = replace(night.settings, upstream=replace(night.settings.upstream, repo=tmp_path / "none"))
    sync = night.run()
    assert (sync.state, sync.error) == (ForkSyncState.REFUSED, f"{tmp_path / 'none'} is not a folder.")


def test_names_that_are_not_text_are_recorded(night: Night) -> None:
    name = b"ui/caf\xe9.ts".decode(errors="surrogateescape")
    night.world.upstream.commit("feat: form", {name: "adapterType\n"})
    (finding,) = night.run().report["scan"]["new"]
    assert finding["path"] == "ui/caf\\udce9.ts"


def test_a_sync_runs_once_per_day(night: Night) -> None:
    first = night.run()
    night.now += timedelta(hours=23, minutes=59)
    assert night.run().id == first.id
    night.now += timedelta(minutes=2)
    assert night.run().id != first.id
    assert len(night.syncs()) == 2


def test_one_of_two_workers_runs_the_sync(database: Database) -> None:
    with database.transaction() as session:
        assert fork_syncs.claim(session, SIX, MORNING)
    with database.transaction() as session:
        assert fork_syncs.claim(session, SIX, MORNING) is None
        assert not fork_syncs.is_due(session, SIX, MORNING)


def test_an_interrupted_sync_is_run_again(night: Night) -> None:
    with night.database.transaction() as session:
        sync_id = fork_syncs.claim(session, SIX, MORNING)
    night.now = MORNING + fork_syncs.CLAIM_DURATION
    with night.database.reading() as session:
        assert fork_syncs.is_due(session, SIX, night.now)
    sync = night.run()
    assert (sync.id, sync.state) == (sync_id, ForkSyncState.SYNCED)


def test_a_late_result_does_not_overwrite_the_result_of_another_worker(night: Night) -> None:
    sync = night.run()
    with night.database.transaction() as session:
        fork_syncs.finish(session, sync.id, ForkSyncState.REFUSED, night.now, report={}, error="late")
    assert night.syncs()[0].state is ForkSyncState.SYNCED
    assert len(night.events()) == 1


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime(2026, 3, 15, 5, 59, tzinfo=UTC), False),
        (datetime(2026, 3, 15, 6, 0, tzinfo=UTC), True),
        (datetime(2026, 3, 18, 1, 0, tzinfo=UTC), True),
    ],
)
def test_a_missed_sync_is_due(night: Night, now: datetime, due: bool) -> None:
    night.run()
    with night.database.reading() as session:
        assert fork_syncs.is_due(session, SIX, now) is due


@pytest.mark.parametrize("configured", [True, False])
def test_the_scheduler_enqueues_a_due_sync_if_it_is_configured(
    night: Night, redis_url: str, configured: bool
) -> None:
    upstream = replace(night.settings.upstream, repo=night.world.fork.path if configured else None)
    redis = connect(redis_url)
    scheduler = Scheduler(Context(replace(night.settings, upstream=upstream), night.database, redis))
    scheduler.tick(night.now)
    names = [job.func_name for job in open_queue(redis, DOWNLOADS_QUEUE).jobs]
    assert ("daemon.jobs.sync_upstream" in names) is configured


def test_without_a_repository_the_job_does_nothing(night: Night) -> None:
    settings = replace(night.settings, upstream=replace(night.settings.upstream, repo=None))
    nightly.sync_fork(night.database, settings, lambda: night.now)
    assert night.syncs() == []


def test_old_syncs_are_deleted(night: Night) -> None:
    night.run()
    with night.database.transaction() as session:
        retention.delete_expired(session, MORNING + fork_syncs.KEEP_SYNCS - timedelta(hours=1))
    assert len(night.syncs()) == 1
    with night.database.transaction() as session:
        retention.delete_expired(session, MORNING + fork_syncs.KEEP_SYNCS + timedelta(days=1))
    assert night.syncs() == []

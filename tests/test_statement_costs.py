"""Statements stay cheap with 1000 bots and a year of history, with and without statistics of the database.

SQLite chooses an index by statistics, which may be missing or old. A query that depends on them may read the history
once per row and hold up every process for minutes. These tests end such statements, see `limited_statements`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from psycopg import sql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from daemon.context import Context
from daemon.mail.composers import COMPOSERS
from daemon.mail.emails import EmailContext
from daemon.scheduler import Scheduler
from portal.database import Database
from portal.models import (
    Bot,
    BotState,
    BotSync,
    BotUpdate,
    ForkSyncState,
    Org,
    OutgoingMail,
    Release,
    Step,
    UpdateState,
    utcnow,
)
from portal.models.encrypted import use_keys
from portal.queue import JobName, connect
from portal.rules.allowlist import Allowlist
from portal.rules.references import parse_reference
from portal.services import fleet_settings, fork_syncs, retention
from portal.services.accounts import sessions
from portal.services.audit import log
from portal.services.bots import (
    bot_template,
    creation,
    creation_progress,
    desired_state,
    leftovers,
    nodes,
    observations,
    purging,
    removal,
    snapshots,
)
from portal.services.bots.observations import Observation
from portal.services.mail import delivery
from portal.services.releases import changelogs, polling
from portal.services.rollouts import notifications, outcomes, rollouts, transitions, updates
from portal.services.syncs import claims, member_calls, operations, reconciliation, selection
from portal.services.syncs.failures import Failure, FailureKind
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import db
from tests import factories
from tests.conftest import SECRET_KEY
from tests.support import history
from tests.support.databases import migrate
from tests.support.statements import limited_statements

# The history of a thousand bots takes seconds to add.
pytestmark = pytest.mark.slow

Action = Callable[[Session, Settings], None]

STEPS = 250 * history.BOTS
"""For ticks, jobs and pages, which may read all bots but no history. The bots of a rollout take 160 steps each."""
STEPS_OF_A_REPORT = 25 * history.BOTS * history.WEEKS
"""For hourly jobs and a few pages of operators, which may read all updates or all mails once."""
SECONDS = 20.0
"""The limit of PostgreSQL. The slowest statement takes less than a second even on a busy computer."""


@pytest.fixture(scope="module")
def sqlite_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the history."""
    folder = tmp_path_factory.mktemp("history")
    fill(f"sqlite:///{folder}/flotilla.db", folder)
    return folder / "flotilla.db"


@pytest.fixture(scope="module")
def postgresql_history(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database with the history."""
    name = create_database(postgres_url)
    fill(address(postgres_url, name), tmp_path_factory.mktemp("history"))
    return name


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a copy of the history for this test."""
    if database_kind == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_history"), tmp_path / "flotilla.db")
        yield f"sqlite:///{tmp_path}/flotilla.db"
        return
    server = request.getfixturevalue("postgres_url")
    name = create_database(server, template=request.getfixturevalue("postgresql_history"))
    yield address(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def create_database(server: str, template: str = "template1") -> str:
    name = f"history_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return name


def address(server: str, name: str) -> str:
    return server.rsplit("/", 1)[0].replace("postgresql://", "postgresql+psycopg://") + f"/{name}"


def fill(url: str, folder: Path) -> None:
    use_keys(SECRET_KEY)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SECRET_KEY", SECRET_KEY)
        migrate(url, folder)
    filled = Database(url)
    with filled.transaction() as session:
        history.add_history(session)
    filled.dispose()


def each_statistics(database: Database) -> Iterator[None]:
    """Yield twice: without any statistics (only SQLite can do that), and with those of this moment."""
    if database.engine.dialect.name == "sqlite":
        execute(database, "ANALYZE")
        execute(database, "DELETE FROM sqlite_stat1")
        yield
    execute(database, "ANALYZE")
    yield


def execute(database: Database, statement: str) -> None:
    with database.transaction() as session:
        session.execute(sa.text(statement))
    database.dispose()  # a connection reads the statistics once


def test_a_tick_does_not_read_the_history(settings: Settings, database: Database, redis_url: str) -> None:
    scheduler = Scheduler(Context(settings, database, connect(redis_url)))
    night = datetime.now(UTC).replace(hour=3, minute=5)
    exceeded: list[str] = []
    for _ in each_statistics(database):
        with limited_statements(database.engine, steps=STEPS, seconds=SECONDS) as ended:
            for second in range(2):
                assert scheduler.tick(night + timedelta(seconds=second))
        exceeded += ended

    assert exceeded == []
    with database.reading() as session:
        pending = sa.select(sa.func.count()).where(BotUpdate.state == UpdateState.PENDING, BotUpdate.wave.is_(None))
        assert session.scalar(pending) == history.BOTS - 1, "the canary is in its wave, the other bots wait"


def test_jobs_and_actions_do_not_read_the_history(settings: Settings, database: Database) -> None:
    with database.transaction() as session:
        prepare_jobs(session)
    exceeded: list[str] = []
    for _ in each_statistics(database):
        for name, action in [*JOBS.items(), *OTHER_ACTIONS.items()]:
            steps = STEPS_OF_A_REPORT if name in HOURLY else STEPS
            with limited_statements(database.engine, steps=steps, seconds=SECONDS) as ended:
                try:
                    run_and_roll_back(database, settings, action)
                except OperationalError:
                    assert ended, "no other error is expected"
            exceeded += [f"{name}: {statement}" for statement in ended]

    assert exceeded == []


def test_there_is_a_case_for_every_job() -> None:
    assert JOBS.keys() == set(JobName)


def test_pages_do_not_read_the_history(app: Flask, settings: Settings, database: Database) -> None:
    with database.transaction() as session:
        prepare_jobs(session)
        tokens = {
            user_id: sessions.start(session, user_id, now=utcnow(), user_agent="test", ip="127.0.0.1")
            for user_id in (history.OPERATOR_ID, history.OWNER_ID)
        }
    paths = list_pages(app)
    wrong: list[str] = []
    for _ in each_statistics(database):
        with app.app_context():
            engine = db.engine
        for user_id, path in paths:
            client = app.test_client()
            client.set_cookie(session_cookie_name(settings), tokens[user_id])
            with limited_statements(engine, steps=limit_steps(path), seconds=SECONDS) as ended:
                status = client.get(path).status_code
            if status != 200 or ended:
                wrong.append(f"{path}: {status} {ended}")

    assert wrong == []


def limit_steps(path: str) -> int:
    return STEPS_OF_A_REPORT if path.startswith("/admin/mail/") or path == "/admin/rollouts" else STEPS


def list_pages(app: Flask) -> list[tuple[str, str]]:
    """List pairs of a user and the path of a page: all pages of operators and of organizations, and searches."""
    ids: dict[str, Any] = {
        "slug": history.ORG_SLUG,
        "bot_id": history.BOT_ID,
        "release_id": history.CURRENT_RELEASE_ID,
        "rollout_id": history.ENDED_ROLLOUT_ID,
        "user_id": history.OPERATOR_ID,  # has no events, so nothing ends the search for them early
        "org_id": history.ORG_ID,
    }
    with app.test_request_context(base_url="http://localhost"):
        found = [
            (
                history.OPERATOR_ID if rule.endpoint.startswith("admin_") else history.OWNER_ID,
                app.url_for(rule.endpoint, **{name: ids[name] for name in rule.arguments}),
            )
            for rule in app.url_map.iter_rules()
            if "GET" in (rule.methods or ())
            and rule.rule.startswith(("/admin", "/o/"))
            and rule.arguments <= ids.keys()
            # The owner cannot leave, the states of members belong to the team page, and no worker sends a log here.
            # The others answer with 200.
            if rule.endpoint not in {"team.confirm_leaving", "member_sync.index", "bot_logs.download"}
        ]
    searches = [
        "fleet?show=updating",
        "fleet?show=outdated",
        "fleet?show=failed",
        "fleet?sort=-update",
        "fleet?sort=-version",
        "fleet?q=bot",
        "mail/?state=sent",
        "mail/?state=failed",
        "mail/?page=900",
        "events?about=bot.updated",
        "events?about=rollout.aborted",
        "events?person=nobody",
        "events?about=bot",
        "events?about=member",
        "events?since=2020-01-01&until=2020-01-02",
        f"events?org={history.ORG_SLUG}",
        "users?q=user",
        "sync?state=blocked",
        "sync?q=error&page=20",
        f"sync?org={history.ORG_SLUG}&node={history.NODE_ID}",
        f"rollouts/new?audience=all&strategy=rolling_wave&release={history.NEW_RELEASE_ID}",
    ]
    audit = f"/o/{history.ORG_SLUG}/audit"
    return [
        *found,
        *((history.OPERATOR_ID, f"/admin/{search}") for search in searches),
        *((history.OWNER_ID, f"{audit}?{query}") for query in ("about=bot.updated", "about=bot.started", "person=x")),
    ]


def prepare_jobs(session: Session) -> None:
    """Add a rollout with an update that is in its wave, and a mail that is due."""
    release = session.get_one(Release, history.NEW_RELEASE_ID)
    rollout = factories.rollout(session, release, id="open", state="running", started_at=utcnow())
    bot = session.get_one(Bot, history.BOT_ID)
    factories.update(session, rollout, bot, id="open", wave=1)
    context = {"org_id": history.ORG_ID, "rollout_id": history.ENDED_ROLLOUT_ID, "user_id": history.OWNER_ID}
    session.add(OutgoingMail(id="due", dedupe_key="due", to="u@example.com", template="updated", context=context))


def create_bot(session: Session, _settings: Settings) -> None:
    factories.bot_template(session)
    org, now = session.get_one(Org, history.ORG_ID), utcnow()
    bot = creation.create_bot(session, Allowlist.parse(["registry.example"]), org, now=now)
    assert bot.id in creation_progress.list_due(session, now, repeated=False)
    assert creation_progress.begin_attempt(session, bot.id, now)
    creation_progress.record_failure(session, bot.id, "refused", now, change_port=True)
    removal.request_removal(session, bot, keep_data=True, immediately=True, now=now, actor=None)
    assert purging.is_purgeable(session, bot.id, now)


def run_and_roll_back(database: Database, settings: Settings, action: Action) -> None:
    with database.transaction() as session:
        action(session, settings)
        session.rollback()


def poll_image(session: Session, _settings: Settings) -> None:
    now = utcnow() + timedelta(hours=1)
    polling.schedule_due(session, now)
    assert polling.claim_poll(session, factories.IMAGE, now)
    release = polling.record_release(session, parse_reference(factories.IMAGE), factories.digest("new"), {}, now)
    polling.record_answer(session, factories.IMAGE, release.digest, release, now)
    polling.record_failure(session, factories.IMAGE, "refused", now)
    polling.find_following(session, factories.IMAGE, now)


def poll_slow_registry(session: Session, _settings: Settings) -> None:
    now = utcnow()
    polling.schedule_due(session, now)
    polling.mark_slow(session, factories.IMAGE, now)
    assert polling.claim_poll(session, factories.IMAGE, now, slow=True)
    polling.mark_quick(session, factories.IMAGE)
    polling.find_following(session, factories.IMAGE, now, slow=True)


def read_changelog(session: Session, _settings: Settings) -> None:
    release = session.get_one(Release, history.NEW_RELEASE_ID)
    release.changelog_read_at = None
    assert changelogs.list_due(session, utcnow())
    assert changelogs.claim_reading(session, release.id, utcnow())
    changelogs.record_changelog(session, release.id, release.changelog, utcnow())
    notifications.notify_update_available(session, release, utcnow())


def update_bot(session: Session, _settings: Settings) -> None:
    update = session.get_one(BotUpdate, "open")
    assert updates.list_unfinished(session, update) == []
    assert updates.claim_update(session, update.id, utcnow()) is updates.ClaimResult.START
    session.refresh(update)
    updates.enter_step(session, update, Step.HEALTH, utcnow())
    outcomes.commit_healthy(session, update, "new container", "127.0.0.1:20000", utcnow())
    assert updates.list_abandoned(session, utcnow()) == [("open", history.NODE_ID)]
    updates.record(session, update, cleaned_at=utcnow())


def apply_desired_state(session: Session, _settings: Settings) -> None:
    desired_state.list_pending(session)
    assert desired_state.pending_change(session, history.BOT_ID) is None


def purge_bot(session: Session, _settings: Settings) -> None:
    assert not purging.is_purgeable(session, history.BOT_ID, utcnow())
    assert purging.list_due(session, utcnow()) == []
    assert snapshots.list_kept(session, history.BOT_ID) == []


def probe_node(session: Session, _settings: Settings) -> None:
    bot_ids = [bot.id for bot in observations.list_observable(session, history.NODE_ID)]
    assert len(bot_ids) == history.BOTS // history.NODES
    nodes.record_answer(session, history.NODE_ID, utcnow())
    observed = [
        Observation(bot_id, f"container-{int(bot_id[1:])}", BotState.UNHEALTHY, "503", None) for bot_id in bot_ids
    ]
    observations.record_observations(session, history.NODE_ID, observed, utcnow())


def read_log(session: Session, _settings: Settings) -> None:
    bot = session.get_one(Bot, history.BOT_ID)
    assert bot.node is not None
    bot_template.get_template(session)
    fleet_settings.get_settings(session)


def collect_node(session: Session, _settings: Settings) -> None:
    week_ago = utcnow() - timedelta(days=7)
    assert leftovers.list_unneeded_images(session, history.NODE_ID, week_ago)
    assert leftovers.list_cleaned_updates(session, {f"{history.ENDED_ROLLOUT_ID}-{history.BOT_ID}"})
    assert leftovers.list_bot_containers(session, history.NODE_ID)


def send_mail(session: Session, settings: Settings) -> None:
    now = utcnow()
    assert delivery.list_due(session, now, repeated=False) == ["due"]
    assert delivery.list_due(session, now, repeated=True) == []
    mail = delivery.claim_attempt(session, "due", "example.com", now)
    assert mail is not None
    assert COMPOSERS[mail.template](EmailContext(session, settings, mail, now))
    delivery.defer_others(session, mail, now)
    assert delivery.mark_sent(session, mail, now)


def sync_node(session: Session, _settings: Settings) -> None:
    now = utcnow()
    assert selection.find_due(session, now).node_ids == []
    session.execute(sa.update(Bot).values(epoch=2))
    assert len(selection.find_due(session, now).node_ids) == history.NODES
    assert len(selection.list_due_bots(session, now, history.NODE_ID, 500)) == history.BOTS // history.NODES
    session.execute(sa.update(BotSync).values(provisioned_epoch=2))
    claim = claims.claim_bot(session, history.BOT_ID, timedelta(minutes=1))
    assert claim is not None
    call = member_calls.next_call(session, claim, now)
    assert call is not None
    member_calls.record_failure(session, claim, call, Failure(FailureKind.REFUSED, "refused", 404), now)
    member_calls.record_success(session, claim, call)
    due = reconciliation.begin(session, claim, now)
    assert due is not None
    assert reconciliation.record_list(session, claim, due, [], now) == []
    reconciliation.finish(session, claim, due, now)
    operations.retry_all(session)


def sync_unanswering(session: Session, _settings: Settings) -> None:
    session.execute(sa.update(BotSync).values(unanswered_calls=1, reconciled_epoch=0))
    assert len(selection.list_due_unanswering(session, utcnow(), 64)) == 64


def sync_upstream(session: Session, _settings: Settings) -> None:
    assert fork_syncs.is_due(session, time(2), utcnow())
    sync_id = fork_syncs.claim(session, time(2), utcnow())
    assert sync_id is not None
    fork_syncs.finish(session, sync_id, ForkSyncState.REFUSED, utcnow(), report={}, error="no access")


def delete_expired(session: Session, _settings: Settings) -> None:
    retention.delete_expired(session, utcnow())


JOBS: dict[str, Action] = {
    JobName.POLL_IMAGE: poll_image,
    JobName.POLL_SLOW_REGISTRY: poll_slow_registry,
    JobName.READ_CHANGELOG: read_changelog,
    JobName.UPDATE_BOT: update_bot,
    JobName.CREATE_BOT: create_bot,
    JobName.APPLY_DESIRED_STATE: apply_desired_state,
    JobName.PURGE_BOT: purge_bot,
    JobName.PROBE_NODE: probe_node,
    JobName.COLLECT_NODE: collect_node,
    JobName.SEND_MAIL: send_mail,
    JobName.READ_LOG: read_log,
    JobName.READ_LONG_LOG: read_log,
    JobName.READ_RESOURCE_USE: read_log,
    JobName.SYNC_NODE: sync_node,
    JobName.SYNC_UNANSWERING: sync_unanswering,
    JobName.SYNC_UPSTREAM: sync_upstream,
    JobName.DELETE_EXPIRED: delete_expired,
}
"""What each job does in the database."""
HOURLY = {JobName.COLLECT_NODE, JobName.DELETE_EXPIRED}


def end_rollout(session: Session, _settings: Settings) -> None:
    transitions.abort_rollout(session, rollouts.get_rollout(session, "open"), "to see", utcnow(), actor=None)


def record_refusal(session: Session, _settings: Settings) -> None:
    log.record_refusal(session, log.Refusal(history.OWNER_ID, history.ORG_ID, "operate", "admin"), utcnow())


OTHER_ACTIONS: dict[str, Action] = {"an ended rollout": end_rollout, "a refusal": record_refusal}

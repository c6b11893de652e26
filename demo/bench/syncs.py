"""Benchmark of the member sync: a mass change of epochs, and bots that hang. Used by `demo.bench.__main__`."""

from __future__ import annotations

import statistics
import time

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.provision import sync_jobs
from demo.bench.environment import BenchEnvironment
from demo.bench.stub_bots import StubBots, running_stub_bots
from demo.bench.tables import Table, measure_cost
from portal.database import Database
from portal.models import (
    Bot,
    BotState,
    BotSync,
    Membership,
    MembershipRole,
    MemberSync,
    Node,
    Org,
    Provisioning,
    SyncState,
    User,
    utcnow,
)
from portal.services.orgs import member_sync
from portal.services.syncs import selection

BOTS = 500
MEMBERS = 20
_FEW_BOTS, _HANGING_BOTS = 200, 20
_REPETITIONS = 3
_NODE_ID = "node"


def measure(environment: BenchEnvironment) -> Table:
    """Measure how fast all members are sent to all bots of one node."""
    head = ("", "calls", "seconds", "calls/s", "queries/call", "most at once")
    note = (
        f"A bot answers in 5 ms. Beside {_HANGING_BOTS} bots that hang, the seconds are those until the last of the"
        f" other {_FEW_BOTS - _HANGING_BOTS} bots has its change."
    )
    table = Table(f"Sending members to the bots of one node, {MEMBERS} members each", head, note=note)
    with running_stub_bots() as stubs, environment.every_database() as databases:
        for kind, database in databases.items():
            table.rows.extend((f"{kind}: {what}", *cells) for what, cells in measure_database(database, stubs))
    return table


def measure_database(database: Database, stubs: StubBots) -> list[tuple[str, tuple[str, ...]]]:
    """Measure one database, and return a description and cells for each row."""
    _create_bots(database, _FEW_BOTS, stubs)
    rows = [(f"first sync of {_FEW_BOTS} bots", _measure_convergence(database, stubs))]
    alone, beside_hanging = _compare_with_hanging_bots(database, stubs)
    rows.append((f"one change in each of {_FEW_BOTS} bots", _one_number(alone)))
    rows.append((f"the same while {_HANGING_BOTS} of them hang", _one_number(beside_hanging)))
    rows.append(("ratio", _one_number(beside_hanging / alone)))
    _let_bots_hang(database, stubs, hang=False)
    _create_bots(database, BOTS - _FEW_BOTS, stubs)
    _sync_all(database)
    _begin_epoch(database)
    rows.append((f"new epoch of {BOTS} bots", _measure_convergence(database, stubs)))
    return rows


def _measure_convergence(database: Database, stubs: StubBots) -> tuple[str, ...]:
    stubs.reset()
    cost = measure_cost(lambda: _sync_all(database), database.engine)
    calls = max(1, stubs.calls.value)
    numbers = (f"{cost.seconds:.1f}", f"{calls / cost.seconds:.0f}", f"{cost.queries / calls:.1f}")
    return (str(calls), *numbers, str(stubs.most_at_once.value))


def _compare_with_hanging_bots(database: Database, stubs: StubBots) -> tuple[float, float]:
    """Measure in turn without and with bots that hang; return the median seconds of both."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_REPETITIONS):
        for hang in (False, True):
            _let_bots_hang(database, stubs, hang=hang)
            seconds[hang].append(_measure_other_bots(database, stubs))
    return statistics.median(seconds[False]), statistics.median(seconds[True])


def _measure_other_bots(database: Database, stubs: StubBots) -> float:
    """Return the seconds until the last bot that answers has got one change."""
    with database.transaction() as session:
        one_user = sa.update(MemberSync).where(MemberSync.user_id == "user-1")
        session.execute(one_user.values(state=SyncState.PENDING, next_attempt_at=None))
    started = time.monotonic()
    _sync_all(database)
    return float(stubs.last_call_at.value - started)


def _one_number(seconds: float) -> tuple[str, ...]:
    return ("", f"{seconds:.2f}", "", "", "")


def _sync_all(database: Database) -> None:
    """Run the job of the node, as the worker does, until no bot is due that answers."""
    while True:
        sync_jobs.sync_node(database, _NODE_ID)
        with database.reading() as session:
            if not selection.find_due(session, utcnow()).node_ids:
                return


def _begin_epoch(database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.update(Bot).values(epoch=Bot.epoch + 1))


def _let_bots_hang(database: Database, stubs: StubBots, *, hang: bool = True) -> None:
    with database.transaction() as session:
        some = sa.select(Bot.id).order_by(Bot.id).limit(_HANGING_BOTS).scalar_subquery()
        session.execute(
            sa.update(Bot).where(Bot.id.in_(some)).values(address=stubs.hanging if hang else stubs.answering)
        )
        session.execute(sa.update(BotSync).values(unanswered_calls=0, next_call_at=None, claimed_until=None))


def _create_bots(database: Database, number: int, stubs: StubBots) -> None:
    """Create bots, each for another organization with `MEMBERS` members."""
    with database.transaction() as session:
        if session.get(Node, _NODE_ID) is None:
            session.add(Node(id=_NODE_ID, name="node", docker_url="unix:///nowhere", snapshot_dir="/nowhere"))
            session.add_all(
                User(
                    id=f"user-{index}", email=f"u{index}@x.example", email_normalized=f"u{index}@x.example", name="U"
                )
                for index in range(MEMBERS)
            )
        known = session.scalar(sa.select(sa.func.count()).select_from(Bot)) or 0
        for index in range(known, known + number):
            _create_bot(session, index, stubs)


def _create_bot(session: Session, index: int, stubs: StubBots) -> None:
    org = Org(slug=f"org-{index}", name="Org", owner_id="user-0")
    session.add(org)
    session.flush()
    session.add_all(
        Membership(org_id=org.id, user_id=f"user-{number}", role=MembershipRole.ADMIN) for number in range(MEMBERS)
    )
    bot = Bot(
        org_id=org.id,
        node_id=_NODE_ID,
        name="Bot",
        subdomain=f"bot-{index}",
        image="registry.example/acme/bot:stable",
        state=BotState.RUNNING,
        address=stubs.answering,
        provision_secret={"current": "a secret for the benchmark", "next": None},
    )
    session.add(bot)
    session.flush()
    session.add(BotSync(bot_id=bot.id, provisioning=Provisioning.MANAGED))
    session.flush()
    member_sync.set_desired_roles_for_bot(session, bot, utcnow())

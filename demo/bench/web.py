"""Benchmark of open pages: how many one web process carries. Used by `demo.bench.__main__`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import sqlalchemy as sa

from demo.bench import fleet
from demo.bench.dashboards import POLL_SECONDS, Dashboard, PollReport, open_dashboards
from demo.bench.databases import BenchDatabases
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table
from demo.bench.tick_scenes import Scenes
from demo.platform import read_procfile
from demo.processes import free_port, running
from portal.database import Database
from portal.models import Org, Rollout, User, utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name

_SECONDS = 9
_ORGANIZATION_PAGES = 1000
_ROLLOUT_PAGES = 500


def measure(environment: BenchEnvironment) -> Table:
    """Measure the web process with pages that poll while nothing changes."""
    return measure_size(environment.databases, fleet.BOTS)


def measure_size(databases: BenchDatabases, bots: int) -> Table:
    """Measure the web process with pages that poll a fleet of this size while nothing changes."""
    head = ("", "open pages", "polls/s", "p50 ms", "p99 ms", "CPU ms per poll", "carried", "connections", "answers")
    note = f"carried: open pages whose polls, every {POLL_SECONDS} s, use one core completely"
    table = Table(f"Pages that one web process carries, {bots} bots", head, note=note)
    for kind in databases.kinds:
        with databases.new(kind) as database:
            scenes = _open_pages(database, bots)
            with _running_web(database, databases.folder) as (port, pid):
                for name, dashboards in scenes.items():
                    report = open_dashboards(dashboards, port, _SECONDS, lambda: _read_cpu_seconds(pid))
                    table.rows.append((f"{kind}: {name}", str(len(dashboards)), *_describe(report)))
    return table


def _open_pages(database: Database, bots: int) -> dict[str, list[Dashboard]]:
    Scenes(database, bots).rollouts_in_the_middle(1)
    with database.transaction() as session:
        operator = session.scalars(sa.select(User.id).where(User.is_platform_admin)).one()
        operator_token = sessions.start(session, operator, now=utcnow(), user_agent="bench", ip="127.0.0.1")
        rollout_id = session.scalars(sa.select(Rollout.id).order_by(Rollout.created_at.desc())).first()
        owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
        session.add(owner)
        session.flush()
        session.execute(sa.update(Org).values(owner_id=owner.id))
        token = sessions.start(session, owner.id, now=utcnow(), user_agent="bench", ip="127.0.0.1")
        orgs = session.execute(sa.select(Org.id, Org.slug).limit(_ORGANIZATION_PAGES)).all()
    cookie = session_cookie_name(Settings.from_environment())
    rollout = Dashboard(f"/admin/rollouts/{rollout_id}?part=progress", f"{cookie}={operator_token}")
    owned = [Dashboard(f"/o/{slug}/?part=bots", f"{cookie}={token}", org_id) for org_id, slug in orgs]
    wanted = (owned * (_ORGANIZATION_PAGES // len(owned) + 1))[:_ORGANIZATION_PAGES]
    return {"organizations": wanted, f"a rollout of {bots} bots": [rollout] * _ROLLOUT_PAGES}


@contextmanager
def _running_web(database: Database, folder: Path) -> Iterator[tuple[int, int]]:
    """Run one web process; yield its port and the id of the process that answers."""
    port = free_port()
    environment = os.environ | {
        "BASE_URL": f"http://localhost:{port}",
        "DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
    }
    command = ["sh", "-c", f"exec {read_procfile()['web']}"]

    def is_ready() -> bool:
        try:
            return requests.get(f"http://localhost:{port}/healthz", timeout=10).ok
        except requests.RequestException:
            return False

    with running(command, log=folder / "web.log", ready=is_ready, environment=environment) as arbiter:
        (worker,) = Path(f"/proc/{arbiter.pid}/task/{arbiter.pid}/children").read_text().split()
        yield port, int(worker)


def _read_cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    # The name of the program, in brackets, may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _describe(report: PollReport) -> tuple[str, ...]:
    per_poll = report.cpu_seconds / len(report.waits)
    return (
        f"{len(report.waits) / _SECONDS:.0f}",
        f"{report.p50 * 1000:.0f}",
        f"{report.p99 * 1000:.0f}",
        f"{per_poll * 1000:.1f}",
        f"{POLL_SECONDS / per_poll:.0f}",
        str(report.connections),
        " ".join(f"{count}x{status}" for status, count in report.statuses.most_common()),
    )

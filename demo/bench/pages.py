"""Benchmark of the operators' pages with a large fleet, compared with a small one. Used by `demo.bench.__main__`.

`_list_pages` lists the measured pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from demo.bench import fleet
from demo.bench.databases import BenchDatabases
from demo.bench.environment import BenchEnvironment
from demo.bench.page_history import EVENTS_PER_BOT, add_history
from demo.bench.tables import Cost, Table, measure_cost
from demo.bench.tick_scenes import ROLLOUTS, Scenes
from demo.bench.ticks import SMALL
from portal.app import create_app
from portal.database import Database
from portal.models import Release, Rollout, User, utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import db

_REPETITIONS = 30
_FRAGMENT_HEADERS = {"HX-Request": "true"}
_VERSION = re.compile(r"version=(\w+)")


@dataclass(frozen=True, slots=True)
class MeasuredPage:
    """A page that the benchmark requests.

    Attributes:
        name: its name in the table.
        address: path and query.
        is_fragment: whether htmx requests it.
        is_unchanged: whether the request names the version that the page has, as a poll does.
    """

    name: str
    address: str
    is_fragment: bool = False
    is_unchanged: bool = False


def measure(environment: BenchEnvironment) -> Table:
    """Measure all pages."""
    return measure_size(environment.databases, fleet.BOTS)


def measure_size(databases: BenchDatabases, bots: int) -> Table:
    """Measure all pages with a fleet of this size, and the ratio to a fleet of 100 bots."""
    small_head = (f"with {SMALL} bots: p50 ms", "CPU ms", "ratio p50", "CPU")
    head = ("", "p50 ms", "p99 ms", "CPU ms", "statements", "KB", *small_head)
    note = (
        f"{ROLLOUTS} rollouts of all bots are in the middle, and {EVENTS_PER_BOT} events of each bot are in the log."
        " Bytes are those before compression. CPU is that of the web process alone."
    )
    table = Table(f"Pages, {bots} bots", head, note=note)
    for kind in databases.kinds:
        with databases.new(kind) as small:
            base = {page.name: cost for page, cost, _size in measure_pages(small, SMALL)}
        with databases.new(kind) as large:
            for page, cost, size in measure_pages(large, bots):
                table.rows.append((f"{kind}: {page.name}", *_describe(cost, size, base[page.name])))
    return table


def _list_pages(rollout_id: str, release_id: str) -> Iterator[MeasuredPage]:
    rollout = f"/admin/rollouts/{rollout_id}"
    yield MeasuredPage("rollouts", "/admin/rollouts")
    yield MeasuredPage("rollouts, unchanged (polled every 5 s)", "/admin/rollouts?part=list", True, True)
    yield MeasuredPage("rollout", rollout)
    yield MeasuredPage("rollout, progress", f"{rollout}?part=progress", True)
    yield MeasuredPage("rollout, unchanged (polled every 3 s)", f"{rollout}?part=progress", True, True)
    yield MeasuredPage("rollout, controls", f"{rollout}?part=controls", True)
    yield MeasuredPage("rollout, chart", f"{rollout}?part=chart", True)
    yield MeasuredPage("rollout, its bots", f"{rollout}?part=updates", True)
    yield MeasuredPage("rollout, its waiting bots, last page", f"{rollout}?part=updates&show=pending&page=999", True)
    yield MeasuredPage("rollout, search in its bots", f"{rollout}?part=updates&q=bot+99", True)
    yield MeasuredPage("new rollout", f"/admin/rollouts/new?release={release_id}")
    yield MeasuredPage("overview", "/admin/")
    yield MeasuredPage("overview, unchanged (polled every 5 s)", "/admin/?part=state", True, True)
    yield from _list_fleet_pages(release_id)
    yield from _list_event_pages()
    yield MeasuredPage("releases", "/admin/releases")
    yield MeasuredPage("organizations", "/admin/orgs")
    yield MeasuredPage("home of an organization", "/o/org-7/")


def _list_fleet_pages(release_id: str) -> Iterator[MeasuredPage]:
    yield MeasuredPage("fleet", "/admin/fleet")
    yield MeasuredPage("fleet, last page", "/admin/fleet?page=999")
    yield MeasuredPage("fleet, outdated bots", "/admin/fleet?show=outdated")
    yield MeasuredPage("fleet, failed bots", "/admin/fleet?show=failed")
    yield MeasuredPage("fleet, bots of a release", f"/admin/fleet?release={release_id}")
    yield MeasuredPage("fleet, by version", "/admin/fleet?sort=-version")
    yield MeasuredPage("fleet, by last update", "/admin/fleet?sort=-update")
    yield MeasuredPage("fleet, search", "/admin/fleet?part=bots&q=bot+99", True)


def _list_event_pages() -> Iterator[MeasuredPage]:
    events = "/admin/events"
    yield MeasuredPage("events", events)
    yield MeasuredPage("events of a rare kind", f"{events}?about=config.changed")
    yield MeasuredPage("events of a frequent kind", f"{events}?about=user.signed_in")
    yield MeasuredPage("events of a subject", f"{events}?about=member")
    yield MeasuredPage("events of a person", f"{events}?person=root")
    yield MeasuredPage("events of an unknown person", f"{events}?person=unknown")
    yield MeasuredPage("events of an organization", f"{events}?org=org-77")
    yield MeasuredPage("events of days without any", f"{events}?since=2020-01-01&until=2020-01-02")
    yield MeasuredPage("audit log of an organization", "/o/org-7/audit?about=bot")


def measure_pages(
    database: Database, bots: int, repetitions: int = _REPETITIONS
) -> Iterator[tuple[MeasuredPage, Cost, int]]:
    """Measure each page, and yield its cost and its size in bytes, while rollouts are in the middle.

    Args:
        database: an empty, migrated database.
        bots: number of bots of the fleet.
        repetitions: number of requests for each page.
    """
    Scenes(database, bots).rollouts_in_the_middle(ROLLOUTS)
    add_history(database)
    with database.transaction() as session:
        operator = session.scalars(sa.select(User).where(User.is_platform_admin)).one()
        token = sessions.start(session, operator.id, now=utcnow(), user_agent="bench", ip="127.0.0.1")
        newest = sa.select(Rollout.id, Release.id).join(Rollout.release).order_by(Release.first_seen_at.desc())
        rollout_id, release_id = session.execute(newest).first() or ("", "")
    with _signed_in(database, token) as client:
        for page in _list_pages(rollout_id, release_id):
            yield page, *_measure_page(client, page, repetitions)


@contextmanager
def _signed_in(database: Database, token: str) -> Iterator[FlaskClient]:
    url = database.engine.url.render_as_string(hide_password=False)
    settings = replace(
        Settings.from_environment(),
        database_url=url,
        base_url="http://localhost",
        fleet_image_allowlist=("registry.example",),
    )
    app = create_app(settings)
    client = app.test_client()
    client.set_cookie(session_cookie_name(settings), token)
    with app.app_context():
        engine = db.engine
    try:
        with app.app_context():  # whose end returns the connection of its session
            yield client
    finally:
        engine.dispose()


def _measure_page(client: FlaskClient, page: MeasuredPage, repetitions: int) -> tuple[Cost, int]:
    answers: list[TestResponse] = []
    headers = _FRAGMENT_HEADERS if page.is_fragment else {}
    address = page.address

    def send_request() -> None:
        answers.append(client.get(address, headers=headers))

    send_request()  # the first request compiles the templates
    if page.is_unchanged and (version := _VERSION.search(answers[-1].text)):
        address = f"{address}&version={version[1]}"
    cost = measure_cost(send_request, db.engine, repetitions)
    last = answers[-1]
    if last.status_code not in {200, 204}:
        raise RuntimeError(f"{address} answered {last.status}")
    return cost, len(last.data)


def _describe(cost: Cost, size: int, base: Cost) -> tuple[str, ...]:
    return (
        f"{cost.seconds * 1000:.1f}",
        f"{cost.slowest * 1000:.1f}",
        f"{cost.cpu_seconds * 1000:.1f}",
        str(cost.queries),
        f"{size / 1000:.1f}",
        f"{base.seconds * 1000:.1f}",
        f"{base.cpu_seconds * 1000:.1f}",
        f"{cost.seconds / base.seconds:.1f}",
        f"{cost.cpu_seconds / base.cpu_seconds:.1f}",
    )

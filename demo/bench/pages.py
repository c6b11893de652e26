"""Benchmark of the pages of a large fleet, compared with a small one. Used by `demo.bench.__main__` and its test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from flask.testing import FlaskClient

from demo.bench import fleet
from demo.bench.databases import BenchDatabases
from demo.bench.environment import BenchEnvironment
from demo.bench.page_rows import FRAGMENT_HEADERS, PAGE_HEAD, PageCost, describe_row, measure_page
from demo.bench.page_scene import create_scene
from demo.bench.tables import Table
from demo.bench.ticks import SMALL
from portal.app import create_app
from portal.database import Database
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import db

_REPETITIONS = 20
_VERSION = re.compile(r"version=(\w+)")
_FLEET_PAGES = {
    "overview": "/admin/",
    "fleet": "/admin/fleet",
    "fleet, last page": "/admin/fleet?page=100000",
    "fleet, outdated bots": "/admin/fleet?show=outdated",
    "fleet, search": "/admin/fleet?q=bot+9",
    "organizations": "/admin/orgs",
    "home of an organization": "/o/org-7/",
    "releases": "/admin/releases",
    "sync": "/admin/sync",
    "mails": "/admin/mail/",
    "nodes": "/admin/nodes",
    "users": "/admin/users",
}
_EVENT_PAGES = {
    "events": "/admin/events",
    "events of a rare kind": "/admin/events?about=config.changed",
    "events of a frequent kind": "/admin/events?about=user.signed_in",
    "events of a subject": "/admin/events?about=member",
    "events of a person": "/admin/events?person=root",
    "events of nobody": "/admin/events?person=nobody",
    "events of an organization": "/admin/events?org=org-77",
    "events of a day without any": "/admin/events?since=2020-01-01&until=2020-01-02",
    "audit log of an organization": "/o/org-7/audit?about=bot",
}
_ROLLOUT_PAGES = {
    "rollouts": "/admin/rollouts",
    "rollout": "/admin/rollouts/{rollout_id}",
    "new rollout with its forecast": "/admin/rollouts/new",
}


def measure(environment: BenchEnvironment) -> Table:
    """Measure the pages of a fleet of usual size."""
    return measure_size(environment.databases, fleet.BOTS)


def measure_size(databases: BenchDatabases, bots: int) -> Table:
    """Measure the pages of a fleet of this size, and the ratio to a fleet of 100 bots."""
    note = f"small: the same pages with {SMALL} bots. KB is the size of the body before compression."
    table = Table(f"Pages, {bots} bots", PAGE_HEAD, note=note)
    for kind in databases.kinds:
        with databases.new(kind) as small:
            base = dict(measure_pages(small, SMALL, databases.folder))
        with databases.new(kind) as large:
            for name, cost in measure_pages(large, bots, databases.folder):
                table.rows.append(describe_row(f"{kind}: {name}", cost, base[name]))
    return table


def measure_pages(
    database: Database, bots: int, data_dir: Path, repetitions: int = _REPETITIONS
) -> Iterator[tuple[str, PageCost]]:
    """Measure pages of operators and of an organization, and yield the name and the cost of each.

    Args:
        database: an empty, migrated database.
        bots: number of bots of the fleet.
        data_dir: the data folder of the installation.
        repetitions: number of requests for each page.
    """
    token, rollout_id = create_scene(database, bots)
    settings = replace(
        Settings.from_environment(),
        base_url="http://localhost",
        data_dir=data_dir,
        database_url=database.engine.url.render_as_string(hide_password=False),
    )
    app = create_app(settings)
    client = app.test_client()
    client.set_cookie(session_cookie_name(settings), token)
    with app.app_context():
        for name, address in {**_FLEET_PAGES, **_EVENT_PAGES, **_ROLLOUT_PAGES}.items():
            yield name, measure_page(client, address.format(rollout_id=rollout_id), repetitions)
        yield from _measure_progress(client, f"/admin/rollouts/{rollout_id}?part=progress", repetitions)
        db.engine.dispose()


def _measure_progress(client: FlaskClient, address: str, repetitions: int) -> Iterator[tuple[str, PageCost]]:
    version = _VERSION.search(client.get(address, headers=FRAGMENT_HEADERS).text)
    unchanged = f"{address}&version={version[1]}" if version else address
    yield "rollout, progress (polled)", measure_page(client, address, repetitions, fragment=True)
    yield "rollout, progress unchanged", measure_page(client, unchanged, repetitions, fragment=True)

"""Benchmark of the operators' pages with a large fleet. Used by `demo.bench.__main__`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from daemon.rollout import orchestrator
from demo.bench import fleet
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table, measure_cost
from portal.app import create_app
from portal.database import Database
from portal.models import utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name
from portal.web.extensions import db

_REPETITIONS = 5
_FRAGMENT_HEADERS = {"HX-Request": "true"}
_VERSION = re.compile(r"version=(\w+)")


def measure(environment: BenchEnvironment) -> Table:
    """Measure the largest pages halfway through a rollout to all bots."""
    table = Table(f"Pages, {fleet.BOTS} bots", ("", "ms", "queries", "KB"))
    with environment.every_database() as databases:
        for kind, database in databases.items():
            settings = replace(environment.settings_for(database), base_url="http://localhost")
            rollout_id, token = create_half_done_rollout(database, fleet.BOTS)
            app = create_app(settings)
            client = _create_client(app, settings, token)
            with app.app_context():
                table.rows.extend((f"{kind}: {row[0]}", *row[1:]) for row in _measure_pages(client, rollout_id))
                db.engine.dispose()
    return table


def create_half_done_rollout(database: Database, bots: int) -> tuple[str, str]:
    """Create a fleet and a rollout with half of its bots updated; return its id and an operator's session token.

    Args:
        database: an empty, migrated database.
        bots: number of bots of the fleet.
    """
    with database.transaction() as session:
        operator, release = fleet.create_fleet(session, bots)
        rollout_id = fleet.start_rollout(session, release, operator).id
        token = sessions.start(session, operator.id, now=utcnow(), user_agent="bench", ip="127.0.0.1")
    done = 0
    while done < bots // 2:
        due = [update.update_id for update in orchestrator.tick(database, utcnow(), None)]
        fleet.complete_updates(database, due)
        done += len(due)
    return rollout_id, token


def _create_client(app: Flask, settings: Settings, token: str) -> FlaskClient:
    client = app.test_client()
    client.set_cookie(session_cookie_name(settings), token)
    return client


def _measure_pages(client: FlaskClient, rollout_id: str) -> Iterator[tuple[str, ...]]:
    rollout = f"/admin/rollouts/{rollout_id}"
    progress = f"{rollout}?part=progress"
    version = _VERSION.search(client.get(progress, headers=_FRAGMENT_HEADERS).text)
    unchanged = f"{progress}&version={version[1]}" if version else progress
    yield _measure_page(client, "rollout", rollout)
    yield _measure_page(client, "rollout, progress (polled every 3 s)", progress, fragment=True)
    yield _measure_page(client, "rollout, progress unchanged", unchanged, fragment=True)
    yield _measure_page(client, "rollout, its bots", f"{rollout}?part=updates", fragment=True)
    yield _measure_page(client, "rollouts", "/admin/rollouts")
    yield _measure_page(client, "new rollout with its forecast", "/admin/rollouts/new")
    yield _measure_page(client, "overview", "/admin/")
    yield _measure_page(client, "fleet", "/admin/fleet")
    yield _measure_page(client, "fleet, last page", "/admin/fleet?page=10")
    yield _measure_page(client, "organizations", "/admin/orgs")


def _measure_page(client: FlaskClient, name: str, address: str, *, fragment: bool = False) -> tuple[str, ...]:
    answers: list[TestResponse] = []

    def send_request() -> None:
        answers.append(client.get(address, headers=_FRAGMENT_HEADERS if fragment else {}))

    send_request()  # the first request compiles the templates
    cost = measure_cost(send_request, db.engine, _REPETITIONS)
    last = answers[-1]
    if last.status_code not in {200, 204}:
        raise RuntimeError(f"{address} answered {last.status}")
    return name, *cost.cells, f"{len(last.data) / 1000:.0f}"

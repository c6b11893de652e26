"""What the operators' pages cost with a thousand bots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from daemon.rollout import orchestrator
from demo.bench import fleet
from demo.bench.place import BenchEnvironment
from demo.bench.tables import Table, cost_of
from portal.app import create_app
from portal.database import Database
from portal.models import utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.extensions import db
from portal.web.security import session_cookie_name

_TURNS = 5
_PART = {"HX-Request": "true"}
_VERSION = re.compile(r"version=(\w+)")


def measure(place: BenchEnvironment) -> Table:
    """Ask the portal for its largest pages, half-way through a rollout of everybody."""
    table = Table(f"Pages, {fleet.BOTS} bots", ("", "ms", "queries", "KB"))
    with place.every_database() as databases:
        for kind, database in databases.items():
            settings = replace(place.settings_for(database), base_url="http://localhost")
            rollout_id, token = _rollout_half_done(database)
            app = create_app(settings)
            client = _signed_in(app, settings, token)
            with app.app_context():
                table.rows.extend((f"{kind}: {row[0]}", *row[1:]) for row in _rows(client, rollout_id))
                db.engine.dispose()
    return table


def _rollout_half_done(database: Database) -> tuple[str, str]:
    """The id of a rollout with half of its bots updated, and the cookie of an operator."""
    with database.transaction() as session:
        operator, release = fleet.found(session)
        rollout_id = fleet.start(session, release, operator).id
        token = sessions.start(session, operator.id, now=utcnow(), user_agent="bench", ip="127.0.0.1")
    done = 0
    while done < fleet.BOTS // 2:
        due = [update.update_id for update in orchestrator.tick(database, utcnow())]
        fleet.work(database, due)
        done += len(due)
    return rollout_id, token


def _signed_in(app: Flask, settings: Settings, token: str) -> FlaskClient:
    client = app.test_client()
    client.set_cookie(session_cookie_name(settings), token)
    return client


def _rows(client: FlaskClient, rollout_id: str) -> Iterator[tuple[str, ...]]:
    rollout = f"/admin/rollouts/{rollout_id}"
    progress = f"{rollout}?part=progress"
    version = _VERSION.search(client.get(progress, headers=_PART).text)
    unchanged = f"{progress}&version={version[1]}" if version else progress
    yield _row(client, "rollout", rollout)
    yield _row(client, "rollout, progress (asked for every 3 s)", progress, part=True)
    yield _row(client, "rollout, progress unchanged", unchanged, part=True)
    yield _row(client, "rollout, its bots", f"{rollout}?part=updates", part=True)
    yield _row(client, "rollouts", "/admin/rollouts")
    yield _row(client, "new rollout with its outlook", "/admin/rollouts/new")
    yield _row(client, "overview", "/admin/")
    yield _row(client, "fleet", "/admin/fleet")
    yield _row(client, "fleet, last page", "/admin/fleet?page=10")
    yield _row(client, "organizations", "/admin/orgs")


def _row(client: FlaskClient, name: str, address: str, *, part: bool = False) -> tuple[str, ...]:
    answers: list[TestResponse] = []

    def ask() -> None:
        answers.append(client.get(address, headers=_PART if part else {}))

    ask()  # templates are compiled when first used
    cost = cost_of(ask, db.engine, _TURNS)
    last = answers[-1]
    if last.status_code not in {200, 204}:
        raise RuntimeError(f"{address} answered {last.status}")
    return name, *cost.cells, f"{len(last.data) / 1000:.0f}"

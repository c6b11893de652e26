"""Home page of an organization: polls of the list of bots, which are cheap while nothing changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import (
    Base,
    Bot,
    BotPhase,
    BotRequest,
    BotState,
    BotUpdate,
    Channel,
    DesiredState,
    Node,
    Org,
    PolledImage,
    Release,
    Step,
    UpdateState,
    User,
    utcnow,
)
from portal.services.bots import org_version
from portal.services.bots.desired_state import JUST_STARTED
from portal.services.releases import offers
from portal.services.releases.offers import Reminder
from portal.web.extensions import db
from tests.support.cast import Cast, SignedIn
from tests.support.scene import Scene, rollout, small_fleet
from tests.support.statements import counted_statements

pytestmark = pytest.mark.requests

_VERSION = re.compile(r"version=(\w+)")
_LATER = datetime(2040, 1, 2, tzinfo=UTC)
_EARLIER = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def scene(database: Database, cast: Cast) -> Scene:
    """Acme has two bots; an update of the first is running."""
    with database.transaction() as session:
        made = small_fleet(session, session.get_one(Org, cast.org_id), 2)
        rollout(session, made, [UpdateState.RUNNING])
        return made


@pytest.fixture
def poll(signed_in: SignedIn, cast: Cast) -> Callable[[str], TestResponse]:
    """Return a function that polls the list of bots as alice, who has the given version."""
    headers = {"HX-Request": "true", "X-Tenant-Id": cast.org_id}
    return lambda version: signed_in("alice").get(f"/o/acme/?part=bots&version={version}", headers=headers)


def test_poll_of_an_unchanged_list_costs_four_statements(
    app: Flask, scene: Scene, poll: Callable[[str], TestResponse]
) -> None:
    version = _VERSION.findall(poll("").text)[0]
    with app.app_context(), counted_statements(db.engine) as statements:
        assert poll(version).status_code == 204
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 4


def test_list_is_rendered_again_after_a_minute_because_of_its_times(
    scene: Scene, database: Database, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.reading() as session:
        org, alice = session.get_one(Org, cast.org_id), session.get_one(User, cast.people["alice"])
        moments = [datetime.fromtimestamp(seconds, UTC) for seconds in (0, 60)]
        first, second = (org_version.read_version(session, org, alice, [], moment) for moment in moments)
    assert first != second


def test_poll_notices_every_change_of_the_list(
    scene: Scene,
    poll: Callable[[str], TestResponse],
    database: Database,
    cast: Cast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(org_version, "_REFRESH_SECONDS", 10**10)
    version = _VERSION.findall(poll("").text)[0]
    for description, change in _list_changes(scene, cast):
        with database.transaction() as session:
            change(session)
        answer = poll(version)
        assert answer.status_code == 200, description
        assert answer.headers["HX-Trigger"], f"{description}: the list looks the same"
        version = _VERSION.findall(answer.text)[0]


def _list_changes(scene: Scene, cast: Cast) -> Sequence[tuple[str, Callable[[Session], Any]]]:
    """List changes of the list in an order in which each is visible."""
    first, second = scene.bots

    def write(model: type[Base], key: str, **values: Any) -> Callable[[Session], Any]:
        table: Any = model
        return lambda session: session.execute(sa.update(table).where(table.id == key).values(**values))

    def of_first(**values: Any) -> Callable[[Session], Any]:
        return lambda session: session.execute(sa.update(BotUpdate).where(BotUpdate.bot_id == first).values(**values))

    def snooze(session: Session) -> None:
        bot, alice = session.get_one(Bot, second), session.get_one(User, cast.people["alice"])
        offers.snooze(session, bot, alice, session.get_one(Release, scene.new), Reminder.TOMORROW, now=utcnow())

    def point_at(release_id: str) -> Callable[[Session], Any]:
        return lambda session: session.execute(sa.update(PolledImage).values(release_id=release_id))

    changelog = {"version": "1.5.1", "date": "2026-01-01", "sections": []}
    return [
        ("next step", of_first(step=Step.SNAPSHOT)),
        ("update rolls back", of_first(state=UpdateState.ROLLED_BACK, stopped_at=utcnow(), ended_at=utcnow())),
        ("update succeeds", of_first(state=UpdateState.UPDATED)),
        ("moment of the update", of_first(ended_at=_EARLIER)),
        ("name", write(Bot, second, name="Clippy")),
        ("address", write(Bot, second, subdomain="clippy")),
        ("state", write(Bot, second, state=BotState.UNHEALTHY)),
        ("restart", write(Bot, second, restart_requested_at=utcnow())),
        ("a worker restarts it", write(Bot, second, lease_owner="worker")),
        ("its server does not answer", write(Node, scene.node, last_error="timeout")),
        ("restart is done", write(Bot, second, restart_requested_at=None, lease_owner=None)),
        ("start is not applied", write(Bot, second, applied_state=DesiredState.STOPPED)),
        ("start is applied", write(Bot, second, applied_state=DesiredState.RUNNING)),
        ("state is unknown", write(Bot, second, state=BotState.UNKNOWN)),
        ("just started", write(Bot, second, state_detail=JUST_STARTED)),
        ("updates are held", write(Bot, second, held_until=_LATER)),
        ("updates are not held", write(Bot, second, held_until=None)),
        ("release is skipped", write(Bot, second, skipped_release_id=scene.new)),
        ("release is not skipped", write(Bot, second, skipped_release_id=None)),
        ("attention", write(Bot, second, needs_attention="Look.")),
        ("attention cleared", write(Bot, second, needs_attention=None)),
        ("reminder", snooze),
        ("changelog was read", write(Release, scene.new, changelog=changelog, changelog_read_at=utcnow())),
        ("quarantine", write(Release, scene.new, quarantined_at=utcnow())),
        ("quarantine lifted", write(Release, scene.new, quarantined_at=None)),
        ("pinned", write(Bot, second, release_channel=Channel.PINNED)),
        ("not pinned", write(Bot, second, release_channel=Channel.STABLE)),
        ("older release at the tag", point_at(scene.old)),
        ("newer release at the tag", point_at(scene.new)),
        ("updated elsewhere", write(Bot, second, current_digest=scene.new_digest)),
        ("stopped", write(Bot, second, desired_state=DesiredState.STOPPED)),
        ("removal", write(Bot, second, phase=BotPhase.REMOVING, remove_after=_EARLIER, keep_data=False)),
        ("data is kept", write(Bot, second, keep_data=True)),
        ("later removal", write(Bot, second, remove_after=_LATER)),
        ("creation", write(Bot, second, phase=BotPhase.CREATING)),
        ("failed creation", write(Bot, second, creation_error="no port", creation_attempts=1)),
        ("removed", write(Bot, second, phase=BotPhase.REMOVED)),
        ("other bot removed", write(Bot, first, phase=BotPhase.REMOVED)),
        ("bot requested", lambda session: session.add(BotRequest(org_id=cast.org_id, requested_at=utcnow()))),
    ]

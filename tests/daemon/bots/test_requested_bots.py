"""Bots of new organizations: a request that fails does not affect the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from daemon.bots.requested_bots import fulfil_requests
from portal.database import Database
from portal.models import Bot, utcnow
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_requests
from portal.services.orgs import creation
from portal.settings import Settings
from tests import factories


@pytest.mark.parametrize("error", [OperationalError("SELECT", {}, Exception("deadlock")), KeyError("unexpected")])
def test_a_request_that_fails_does_not_affect_the_others(
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    with database.transaction() as session:
        factories.bot_template(session, create_for_new_orgs=True)
        factories.node(session)
        owner = factories.user(session)
        orgs = [creation.create_org(session, name, owner, now=utcnow()) for name in ("Acme", "Beta")]
        failing, other = (org.id for org in orgs)
    fulfil = bot_requests.fulfil

    def fail_once(session: Session, allowlist: Allowlist, org_id: str, now: datetime) -> Any:
        if org_id == failing:
            raise error
        return fulfil(session, allowlist, org_id, now)

    monkeypatch.setattr(bot_requests, "fulfil", fail_once)
    for _ in range(2):
        fulfil_requests(database, replace(settings, fleet_image_allowlist=("registry.example",)), utcnow())
    with database.reading() as session:
        assert session.scalars(sa.select(Bot.org_id)).all() == [other]
    assert [record.getMessage() for record in caplog.records] == [f"the first bot of organization {failing} failed"]

"""How many calls to the engine and SQL statements a good update with two volumes takes, besides those that wait."""

from __future__ import annotations

import re

import pytest
import requests

from daemon import bot_lease
from daemon.engine.client import Engine
from daemon.update.sequence import update_bot
from demo.versions import SECOND
from portal.models import UpdateState
from tests.support.site import Site
from tests.support.statements import counted_statements

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

MAX_CALLS = 40
MAX_STATEMENTS = 80


def test_good_update_takes_few_calls_and_statements(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    send = Engine.send

    def record_and_send(engine: Engine, request: requests.PreparedRequest, **options: object) -> requests.Response:
        calls.append(f"{request.method} {request.path_url}")
        return send(engine, request, **options)

    monkeypatch.setattr(Engine, "send", record_and_send)
    # On a busy machine more time passes between two calls, so that the lease is checked more often.
    monkeypatch.setattr(bot_lease, "_CERTAIN_SECONDS", 60)
    update_id = site.update_to(SECOND)
    site.images.digest(SECOND)

    with counted_statements(site.database.engine) as statements:
        update_bot(site.database, site.settings, update_id)

    assert site.update(update_id).state is UpdateState.UPDATED
    needed = [call for number, call in enumerate(calls) if not is_repeated_poll(calls[:number], call)]
    assert len(needed) <= MAX_CALLS, "\n".join(needed)
    assert len(statements) <= MAX_STATEMENTS, "\n".join(statements)


def is_repeated_poll(earlier: list[str], call: str) -> bool:
    """Return whether a call waits for a container, as the calls before it do. Their number depends on the load."""
    found = re.match(r"GET /v[0-9.]+/containers/([0-9a-f]{64})/(json|logs)", call)
    return found is not None and any(found[1] in one for one in earlier[-2:] if one.startswith("GET"))

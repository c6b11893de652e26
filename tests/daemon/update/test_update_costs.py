"""How many calls to the engine a good update with two volumes takes, besides those that wait for something."""

from __future__ import annotations

import re

import pytest
import requests

from daemon.engine.client import Engine
from daemon.update.sequence import update_bot
from demo.versions import SECOND
from portal.models import UpdateState
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

MAX_CALLS = 46


def test_good_update_takes_few_calls(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    send = Engine.send

    def record_and_send(engine: Engine, request: requests.PreparedRequest, **options: object) -> requests.Response:
        calls.append(f"{request.method} {request.path_url}")
        return send(engine, request, **options)

    monkeypatch.setattr(Engine, "send", record_and_send)
    update_id = site.update_to(SECOND)
    site.images.digest(SECOND)

    update_bot(site.database, site.settings, update_id)

    assert site.update(update_id).state is UpdateState.UPDATED
    needed = [call for number, call in enumerate(calls) if not is_repeated_poll(calls[:number], call)]
    assert len(needed) <= MAX_CALLS, "\n".join(needed)


def is_repeated_poll(earlier: list[str], call: str) -> bool:
    """Return whether a call waits for a container, as the calls before it do. Their number depends on the load."""
    found = re.match(r"GET /v[0-9.]+/containers/([0-9a-f]{64})/(json|logs)", call)
    return found is not None and any(found[1] in one for one in earlier[-2:] if one.startswith("GET"))

"""`flotilla doctor` asks all connected bots whether they can be provisioned."""

from __future__ import annotations

import pytest

from portal.models import BotState, SyncState
from tests.daemon.conftest import Flotilla
from tests.daemon.provision.toy_bot import ToyBot, Trouble
from tests.daemon.provision.world import SyncWorld


def read_line(flotilla: Flotilla) -> str:
    """Return the line of the bots."""
    lines = flotilla("doctor").output.splitlines()
    return next(line for line in lines if line.split()[1] == "bots:")


def test_doctor_names_bots_that_cannot_be_provisioned(
    flotilla: Flotilla, world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_line(flotilla) == "ok      bots: 1 get their members from Flotilla, and can be called"
    (headers,) = toy.health_headers
    assert "authorization" not in headers, "no secret is sent"

    toy.choose_trouble = lambda _path: Trouble.HTML
    assert "HTTP 200, but the answer is no JSON object" in read_line(flotilla)
    assert read_line(flotilla).startswith("FAILED  bots: ")

    no_secret = {"ok": True, "provisioning": False, "managed": True}
    toy.choose_trouble = lambda _path: None
    monkeypatch.setattr(toy, "_obey", lambda *_: (200, no_secret))
    assert "the bot has no provision secret" in read_line(flotilla)

    world.change_bot(state=BotState.STOPPED)
    world.change_sync(state=SyncState.BLOCKED)
    assert "bots: 1 refuse members; `flotilla sync status` shows why" in read_line(flotilla)

"""The deletion of a company before its bot is removed."""

from __future__ import annotations

import pytest

from daemon.bots import purge
from daemon.engine import containers
from daemon.provision import teardown
from portal.models import BotPhase, Node
from tests.daemon.provision.toy_bot import ToyBot, Trouble
from tests.daemon.provision.world import SyncWorld


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("keeps_data", [True, False])
def test_a_running_bot_whose_data_is_removed_deletes_its_company(
    world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch, is_running: bool, keeps_data: bool
) -> None:
    world.sync()
    world.change_bot(phase=BotPhase.REMOVING, keep_data=keeps_data)
    monkeypatch.setattr(containers, "inspect", lambda *_: {"State": {"Running": is_running}})
    monkeypatch.setattr(purge, "read_address", lambda *_: toy.address)
    purge._delete_company(None, Node(), world.bot())  # type: ignore[arg-type]
    assert (toy.data.members == {}) is (is_running and not keeps_data)


def test_a_failure_is_only_logged(world: SyncWorld, toy: ToyBot) -> None:
    world.sync()
    toy.choose_trouble = lambda _path: Trouble.ERROR
    teardown.try_to_delete_company(world.bot(), toy.address)
    assert toy.data.members


def test_without_a_company_no_call_is_sent(world: SyncWorld, toy: ToyBot) -> None:
    teardown.try_to_delete_company(world.bot(), toy.address)
    assert toy.received == []

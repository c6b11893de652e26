"""The provision client: every call of the protocol, and everything that a bot may answer instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon.provision.client import ProvisionClient
from daemon.provision.failures import BadAnswerError, CallFailed, NoAnswerError, RefusedError, StaleError
from tests.daemon.provision.toy_bot import SECRET, ToyBot, Trouble, running_toy_bot

ADMIN = {"id": "alice", "email": "alice@example.com", "name": "Zoë"}
TENANT = {"tenantId": "acme", "tenantName": "Acme", "budgetCents": 100, "adminUser": ADMIN}
COMPANY = "company-of-acme"
CALLS: dict[str, Callable[[ProvisionClient], object]] = {
    "provision": lambda client: client.provision(TENANT),
    "set_budget": lambda client: client.set_budget(COMPANY, 500, None),
    "delete_company": lambda client: client.delete_company(COMPANY),
    "change_member": lambda client: change(client, "remove", userId="bob", version=1),
    "list_members": lambda client: client.list_members(COMPANY),
}


def change(client: ProvisionClient, verb: str, **body: object) -> None:
    client.change_member(f"/internal/members/{verb}", {"companyId": COMPANY, **body}, f"key of {verb}")


ENDLESS = {Trouble.HANG, Trouble.HANG_AFTER, Trouble.DRIP}
"""Troubles that only the time limit of a call ends."""


@pytest.fixture
def client(toy: ToyBot) -> ProvisionClient:
    return ProvisionClient(toy.address, [SECRET], seconds=20)


def test_every_call_of_the_protocol_succeeds(toy: ToyBot, client: ProvisionClient) -> None:
    assert client.check_health() is True
    assert client.provision(TENANT) == COMPANY
    client.set_budget(COMPANY, 500, 20)
    change(client, "add", user={"id": "bob", "email": "b@example.com", "name": "Bob"}, role="member", version=1)
    change(client, "change-role", userId="bob", role="admin", version=2)
    members = client.list_members(COMPANY)
    assert [(member.user_id, member.role, member.version) for member in members or []] == [
        ("alice", "owner", 0),
        ("bob", "admin", 2),
    ]
    change(client, "remove", userId="bob", version=3)
    client.delete_company(COMPANY)
    client.delete_company(COMPANY)
    assert toy.data.budgets[COMPANY] == (500, 20)
    assert toy.roles("acme") == {}
    assert toy.received[2].key == "key of add"


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("name", CALLS)
def test_every_wrong_answer_is_a_failure(client: ProvisionClient, toy: ToyBot, name: str, trouble: Trouble) -> None:
    client.provision(TENANT)
    if trouble is Trouble.SWAPPED:
        if name == "change_member":
            pytest.skip("the answers to all changes are equal")
        change(client, "remove", userId="bob", version=1)
    calls_before = len(toy.received)
    toy.choose_trouble = lambda _path: trouble
    if trouble in ENDLESS:
        client = ProvisionClient(toy.address, [SECRET], seconds=0.4)
    with running_toy_bot() as trap:
        toy.trap_address = trap.address
        with pytest.raises(CallFailed) as failure:
            CALLS[name](client)
        assert trap.received == []
    assert len(toy.received) <= calls_before + 1
    is_silent = trouble in ENDLESS or trouble in {Trouble.CUT_OFF, Trouble.RESTART}
    assert type(failure.value) is (NoAnswerError if is_silent else BadAnswerError)
    assert SECRET not in str(failure.value)


def test_a_bot_that_does_not_listen_gives_no_answer() -> None:
    with running_toy_bot() as stopped:
        client = ProvisionClient(stopped.address, [SECRET], seconds=1)
    with pytest.raises(NoAnswerError, match="no connection"):
        client.check_health()


def test_refusals_are_told_apart(client: ProvisionClient, toy: ToyBot) -> None:
    client.provision(TENANT)
    with pytest.raises(RefusedError) as refusal:
        change(client, "change-role", userId="stranger", role="admin", version=1)
    assert refusal.value.status == 404
    toy.data.versions[COMPANY, "bob"] = 2
    with pytest.raises(StaleError):
        change(client, "remove", userId="bob", version=1)


def test_only_a_change_of_a_member_can_be_stale(
    client: ProvisionClient, toy: ToyBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "_obey", lambda *_: (409, {"error": "conflict"}))
    for name in CALLS.keys() - {"change_member"}:
        with pytest.raises(BadAnswerError, match="the bot answered HTTP 409"):
            CALLS[name](client)


def test_the_second_secret_is_tried_and_remembered(toy: ToyBot) -> None:
    client = ProvisionClient(toy.address, ["refused", SECRET], seconds=1)
    client.provision(TENANT)
    assert client.accepted_secret == SECRET
    client.list_members(COMPANY)
    toy.secrets = []
    with pytest.raises(RefusedError, match="refused the secret"):
        client.provision(TENANT)


def test_a_bot_without_the_list_is_no_failure(client: ProvisionClient, toy: ToyBot) -> None:
    client.provision(TENANT)
    toy.lists_members = False
    assert client.list_members(COMPANY) is None


@pytest.mark.parametrize(
    "entry",
    [
        "bob",
        {"userId": "bob"},
        {"userId": "", "role": "member"},
        {"userId": "bob", "role": 1},
        {"userId": "b\nob", "role": "member"},
        {"userId": "bob", "role": "member", "version": True},
        {"userId": "bob", "role": "member", "version": 2**31},
        {"userId": "bob", "role": "member", "version": -1},
        {"userId": "bob", "role": "member", "grants": [1]},
        {"userId": "bob", "role": "member", "grants": "all"},
    ],
)
def test_a_list_with_a_wrong_entry_is_refused(
    client: ProvisionClient, toy: ToyBot, monkeypatch: pytest.MonkeyPatch, entry: object
) -> None:
    monkeypatch.setattr(toy, "_list", lambda _company: (200, {"members": [entry]}))
    with pytest.raises(BadAnswerError):
        client.list_members(COMPANY)


def test_a_user_may_be_listed_once_only(
    client: ProvisionClient, toy: ToyBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"userId": "bob", "role": "member"}
    monkeypatch.setattr(toy, "_list", lambda _company: (200, {"members": [entry, entry]}))
    with pytest.raises(BadAnswerError, match="twice"):
        client.list_members(COMPANY)

"""Attacks: hundreds of raw requests over a socket to a running gateway, and bots that attack."""

from __future__ import annotations

import re

import pytest

from tests.portal.gateway.attacks import FORGED, Attack, list_attacks
from tests.support.cast import Cast
from tests.support.gateway import Browser, FakeBot

pytestmark = [pytest.mark.requests, pytest.mark.slow]

IDENTITY = ("x-platform-user-id", "x-platform-user-email", "x-platform-user-name", "x-platform-assertion")


def read_status(received: bytes) -> int | None:
    """Return the status of the first response; None without a response."""
    match = re.match(rb"HTTP/1\.[01] (\d{3})", received)
    return int(match[1]) if match else None


def find_harm(attack: Attack, bob: Browser, bot: FakeBot, cast: Cast) -> list[str]:
    """Send an attack and return what is wrong with the response and with what the bot has seen."""
    bot.seen.clear()
    received = bob.gateway.send(attack.request, 0.4)
    status, wrong = read_status(received), []
    if attack.status is not None and status != attack.status:
        wrong.append(f"status {status} instead of {attack.status}")
    if status is not None and status >= 500 and status != 505:
        wrong.append(f"status {status}")
    if len(bot.seen) > attack.request.count(b"HTTP/1.1"):
        wrong.append(f"{len(bot.seen)} requests")
    for seen in bot.seen:
        text = str(seen.headers)
        identity = [seen.values(name)[:2] for name in IDENTITY]
        if identity[:3] != [[cast.people["bob"]], ["bob@example.com"], ["Bob"]] or len(identity[3]) != 1:
            wrong.append(f"identity {identity}")
        wrong += [f"{secret} reaches the bot" for secret in (FORGED, "portal-secret", bob.token) if secret in text]
        if "internal" in seen.target.partition("?")[0].lower():
            wrong.append(f"the target {seen.target}")
    return [f"{attack.name}: {problem}" for problem in wrong]


def test_no_raw_request_does_harm(bob: Browser, bot: FakeBot, cast: Cast) -> None:
    attacks = list_attacks(bob.host, bob.token)
    assert len(attacks) >= 300
    harm = [problem for attack in attacks for problem in find_harm(attack, bob, bot, cast)]
    assert harm == []
    assert bob.read()[0] == 200

"""Where and how a bot is called, read from its row. Used by the builders of all calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sqlalchemy.orm import defer
from sqlalchemy.sql.base import ExecutableOption

from portal.models import Bot


@dataclass(frozen=True)
class Endpoint:
    """Where to send a call.

    Attributes:
        address: `host:port`, as the worker read it from the engine; never from an answer.
        secrets: the valid secrets, the most likely first.
        company_id: the bot's id of the organization; None before the first provisioning.
        epoch: the epoch before the call. What the call shows is an observation of this epoch.
    """

    address: str
    secrets: Sequence[str] = field(repr=False)
    company_id: str | None
    epoch: int

    LOADED: ClassVar[Sequence[ExecutableOption]] = (defer(Bot.spec),)
    """Options of queries: the description of the container is large and encrypted, and no call needs it."""


def read_endpoint(bot: Bot) -> Endpoint:
    """Read the endpoint of a bot that can be called."""
    return Endpoint(str(bot.address), list_secrets(bot), bot.company_id, bot.epoch)


def list_secrets(bot: Bot) -> list[str]:
    """Return the valid secrets of a bot, the most likely first.

    During a rotation the next secret comes first: after the rotation has reached the container, both are valid, and
    only an accepted next secret shows that.
    """
    stored = bot.provision_secret or {}
    return [secret for secret in (stored.get("next"), stored.get("current")) if secret]

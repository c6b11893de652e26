"""The demo's organization whose bot is created from the template, without an operator. Used by `make demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping

import sqlalchemy as sa

from demo.config import DemoConfig
from demo.platform import flotilla
from demo.processes import DemoError
from demo.seed import bot_image
from portal.database import Database
from portal.models import Bot, BotPhase, Org

SLUG = "dahlia"
_NAME = "Dahlia Flowers"
_LIMITS = ("--memory-mb", "256", "--cpu-millis", "1000", "--pids-limit", "200")
_SECONDS_TO_CREATE = 180


def create_org_with_bot(config: DemoConfig, settings: Mapping[str, str], database: Database) -> None:
    """Set up the template, create the organization, and wait until its bot is ready. Do nothing if it exists.

    Raises:
        DemoError: a command failed, or the bot was not ready in time; the message says why.
    """
    with database.reading() as session:
        exists = session.scalar(sa.select(Org.id).where(Org.slug == SLUG)) is not None
    if not exists:
        options = ("--hosted-env", "HOSTED_MODE=1", *_LIMITS, "--create-for-new-orgs")
        flotilla(settings, "template", "set", "--image", bot_image(config), *options)
        flotilla(settings, "orgs", "create", SLUG, "--name", _NAME, "--owner", f"owner@{SLUG}.example")
        print(f"  organization {_NAME}; its bot is created from the template", flush=True)
    _wait_until_ready(database)


def _wait_until_ready(database: Database) -> None:
    deadline = time.monotonic() + _SECONDS_TO_CREATE
    while True:
        with database.reading() as session:
            bot = session.scalar(sa.select(Bot).join(Bot.org).where(Org.slug == SLUG))
        if bot is not None and bot.phase is not BotPhase.CREATING:
            return
        if time.monotonic() > deadline:
            reason = bot.creation_error if bot is not None else "no node could take it"
            raise DemoError(f"the bot of {_NAME} was not created within {_SECONDS_TO_CREATE} seconds: {reason}")
        time.sleep(0.5)

"""The demo's organization whose bot is created from the template, without an operator. Used by `make demo`."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from demo.config import DemoConfig
from demo.platform import flotilla
from demo.processes import wait_until
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
    failure = f"the bot of {_NAME} was not created (`flotilla bots list` and the page of the bot say why)"
    wait_until(lambda: _is_ready(database), failure, _SECONDS_TO_CREATE)


def _is_ready(database: Database) -> bool:
    with database.reading() as session:
        bot = session.scalar(sa.select(Bot).join(Bot.org).where(Org.slug == SLUG))
    return bot is not None and bot.phase is not BotPhase.CREATING

"""The reference bot behind the gateway: it checks the assertions of the gateway with the keys of the portal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.reference_bot.configuration import read_configuration
from demo.reference_bot.server import running_server
from portal.database import Database
from portal.models import Bot
from portal.settings import Settings
from tests.demo.reference_bot.local_bots import SECRET, BotClient, make_bot
from tests.support.cast import Cast
from tests.support.gateway import RunningGateway, sign_in
from tests.support.portal import running_portal
from tests.support.scene import Scene

pytestmark = pytest.mark.requests


@pytest.fixture
def keys_url(settings: Settings) -> Iterator[str]:
    """Run the portal, and return the address of its key set."""
    with running_portal(settings) as url:
        yield f"{url}/.well-known/jwks.json"


@pytest.fixture
def container(keys_url: str, scene: Scene, database: Database, tmp_path: Path) -> Iterator[BotClient]:
    """Run a reference bot with the variables of the first bot's container, and return a client in its network.

    By a mistake, it has the address of the second bot, too.
    """
    variables = {"HOSTED_MODE": "1", "ASSERTION_JWKS_URL": keys_url, "FLOTILLA_BOT_ID": scene.bots[0]}
    bot = make_bot(tmp_path, read_configuration({**variables, "PORT": "0", "PROVISION_SECRET": SECRET}))
    with running_server(bot) as port:
        bot.migrate()
        with database.transaction() as session:
            for bot_id in scene.bots[:2]:
                session.get_one(Bot, bot_id).address = f"127.0.0.1:{port}"
        yield BotClient(port)


def test_the_bot_trusts_assertions_for_itself_and_no_header(
    gateway: RunningGateway, container: BotClient, database: Database, cast: Cast, scene: Scene
) -> None:
    bob = {"id": cast.people["bob"], "email": "bob@example.com", "name": "Bob"}
    container.add(container.provision(), bob, "member")
    at_first, at_second = (sign_in(gateway, database, bob["id"], bot_id) for bot_id in scene.bots[:2])
    assert at_first.read("/notes", "POST", b"text=buy+paper")[0] == 303
    assert b"Bob" in at_first.read("/")[1]
    assert at_second.read("/")[0] == 403, "the assertion is for another bot"
    assert container.visit("/", bob).status == 403, "the headers are forged"

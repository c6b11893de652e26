"""The logs of bots: read from the engine, cleaned, without secrets. Used by the log page and `flotilla bots logs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from docker.errors import DockerException
from redis import Redis
from sqlalchemy.orm import Session

from daemon.engine import containers
from daemon.engine.client import describe_error, open_engine, rejecting_malformed_answers
from daemon.engine.container_logs import LogLine, read_log
from daemon.errors import OperationFailed
from portal import live_readings
from portal.database import Database
from portal.live_readings import Reading
from portal.models import Bot, Node, NodeState, utcnow
from portal.rules.hidden_secrets import hide_secrets, list_secret_values, parse_environment
from portal.rules.outside_text import clean_line, clean_text
from portal.services import fleet_settings
from portal.services.bots import bot_template
from portal.services.errors import NotFoundError

SIZES = {Reading.LOG: (500, 256 * 1024), Reading.LONG_LOG: (20_000, 4 * 1024 * 1024)}
"""How many lines and how many bytes of text are read at most."""

_CALL_SECONDS = 5
_MAX_CLEANED = 64 * 1024
_MAX_LINE = 8000
"""Characters of a line. It is cut after secrets are hidden, so that no part of one is left at its end."""
_SEPARATOR = "\0"
"""Between lines while secrets are hidden. Neither a cleaned line nor an environment variable contains it."""


class LogUnavailable(OperationFailed):
    """The log cannot be read; the message is for operators."""


def read_for_page(database: Database, redis: Redis, bot_id: str, reading: Reading) -> None:
    """Read the log of a bot and keep it for the portal, or the reason why that is not possible.

    Args:
        database: the database.
        redis: the Redis of the portal.
        bot_id: the bot.
        reading: how much is read.
    """
    lines, error = [], None
    try:
        lines = read(database, bot_id, *SIZES[reading])
    except (LogUnavailable, NotFoundError) as failure:
        error = str(failure)
    content = {"lines": [[line.at, line.is_error, line.text] for line in lines], "error": error}
    live_readings.store(redis, reading, bot_id, content, utcnow())


def read(database: Database, bot_id: str, lines: int, max_bytes: int) -> list[LogLine]:
    """Read the latest lines of the log of a bot, oldest first, without unsafe characters and secrets.

    Args:
        database: the database.
        bot_id: the bot.
        lines: how many lines at most.
        max_bytes: how many bytes of text at most.

    Raises:
        NotFoundError: there is no such bot.
        LogUnavailable: the bot has no container, its node does not answer, or its engine cannot read the log.
    """
    with database.reading() as session:
        bot = session.get(Bot, bot_id)
        if bot is None:
            raise NotFoundError("This bot does not exist.")
        node, known, patterns = bot.node, _list_known_secrets(session, bot), _list_patterns(session)
    try:
        found, log = _read_from_engine(node, bot, lines, max_bytes)
    except (DockerException, OperationFailed) as error:
        raise LogUnavailable(describe_error(error)) from error
    return _clean(log, [*known, *list_secret_values(parse_environment(found), patterns)])


def _read_from_engine(node: Node, bot: Bot, lines: int, max_bytes: int) -> tuple[dict[str, Any], list[LogLine]]:
    if node.state is NodeState.OFFLINE:
        raise LogUnavailable(f"Node {node.name} does not answer: {node.last_error or 'it is offline'}")
    with open_engine(node, _CALL_SECONDS) as engine, rejecting_malformed_answers(node):
        found = containers.inspect(engine, bot.container_id)
        if found is None:
            raise LogUnavailable("The bot has no container")
        return found, read_log(engine, found, lines, max_bytes)


def _list_known_secrets(session: Session, bot: Bot) -> list[str]:
    """List the secrets that Flotilla has told the bot, apart from the variables of its container."""
    template = bot_template.get_template(session)
    secrets = [*(bot.provision_secret or {}).values(), template.api_key, *(template.environment or {}).values()]
    return [str(secret) for secret in secrets if secret]


def _list_patterns(session: Session) -> list[str]:
    return fleet_settings.get_settings(session).secret_variables


def _clean(log: Iterable[LogLine], secrets: list[str]) -> list[LogLine]:
    log = list(log)
    # A sequence for terminals in the middle of a secret would hide it from the search, so the text is cleaned first.
    texts = [clean_text(line.text, _MAX_CLEANED).replace("\n", " ") for line in log]
    forms = [*secrets, *(clean_line(secret, _MAX_CLEANED) for secret in secrets)]
    hidden = hide_secrets(_SEPARATOR.join(texts), forms).split(_SEPARATOR)
    return [replace(line, text=text[:_MAX_LINE]) for line, text in zip(log, hidden, strict=False)]

"""The bot's HTTP server: start, route requests, stop without cutting answers. Used by the entry point."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qsl

from . import provision_api, web
from .behaviour import Behaviour
from .bot import Bot
from .exchange import Exchange, RefusedBody
from .provision_api import Call

STOP_SECONDS = 5
_UNHEALTHY_BEHAVIOURS = frozenset({Behaviour.UNHEALTHY, Behaviour.CORRUPTING, Behaviour.CORRUPTING_AND_CRASHING})
"""How long a stop waits for running requests, shorter than the grace period of Docker."""


class BotServer(ThreadingHTTPServer):
    """The HTTP server, with the bot for its handlers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, bot: Bot) -> None:
        """Listen on the configured port of all addresses."""
        super().__init__(("", bot.configuration.port), BotHandler)
        self.bot = bot


@contextmanager
def running_server(bot: Bot) -> Iterator[int]:
    """Serve a bot in a thread, and yield the port. At the end, running requests have time to end."""
    with BotServer(bot) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
            server.server_close()  # new connections are refused at once, instead of waiting for the end
            bot.activity.stop(STOP_SECONDS)


class BotHandler(Exchange):
    """Handler of one connection."""

    server: BotServer

    def answer(self) -> None:
        """Answer a request of any method."""
        bot = self.server.bot
        with bot.activity.request():
            try:
                self._route(bot)
            except RefusedBody as refusal:
                self.send_json(refusal.status, {"error": str(refusal)})
            except sqlite3.Error as error:
                self.send_json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "error", "reason": str(error)})
        if bot.activity.stopping.is_set():
            self.close_connection = True

    def _route(self, bot: Bot) -> None:
        path, _, query = self.path.partition("?")
        if not bot.migrated.is_set():
            self.send_json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "migrating"})
        elif path == "/health":
            self._answer_health(bot)
        elif path.startswith(provision_api.PREFIX):
            self._answer_platform(bot, path, query)
        else:
            web.answer(self, bot, path)

    def _answer_health(self, bot: Bot) -> None:
        if bot.release.behaviour in _UNHEALTHY_BEHAVIOURS:
            self.send_json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "error", "reason": "broken release"})
            return
        bot.database.check()
        self.send_json(HTTPStatus.OK, {"status": "ok", "version": bot.release.version})

    def _answer_platform(self, bot: Bot, path: str, query: str) -> None:
        call = Call(
            method=self.command,
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            authorization=self.headers.get("Authorization", ""),
            idempotency_key=self.headers.get("Idempotency-Key"),
            read_body=self.read_body,
        )
        answer = bot.provision.answer(call)
        self.send_json(answer.status, answer.content)

"""The handling of a request: check its form, decide, hold, forward. Used by the gateway's server."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from portal.database import is_reachable
from portal.gateway import forwarding, limits, pages, tunnel
from portal.gateway.access_log import AccessLog, AccessRecord
from portal.gateway.bot_headers import BotHeaders
from portal.gateway.database_threads import DatabaseThreads, DatabaseUnavailable
from portal.gateway.exchanges import Exchange, Exchanges
from portal.gateway.holding import Holding, TooManyHeld
from portal.gateway.http.bot_client import BotClient
from portal.gateway.http.bot_errors import BadResponse, BotTooSlow, BotUnreachable, RequestIncomplete
from portal.gateway.http.own_responses import OwnResponse, Sent, refuse, send, text_response
from portal.gateway.http.requests import BrowserRequest, Refused, check_form, check_origin
from portal.gateway.pages import ASSETS_PREFIX, Page, PageRenderer
from portal.gateway.sign_in import SignIn
from portal.gateway.visit_cache import CachedVisit, VisitCache
from portal.rules.bot_access import Access, decide
from portal.rules.bot_hosts import find_subdomain
from portal.rules.bot_paths import ENTER_PATH, GATEWAY_PREFIX, PathVerdict, check_target
from portal.rules.proxy_headers import MalformedRequest
from portal.services.gateway.visits import Visit
from portal.settings import Settings
from portal.tokens import fingerprint

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 4
"""Attempts to reach a bot that refuses connections. A request that the bot may have received is sent twice."""
_RETRY_SECONDS = 0.3
_CLIENT_GONE = 499

_PAGES = {
    Access.NOT_FOUND: pages.NOT_FOUND,
    Access.PROVISIONING: pages.PROVISIONING,
    Access.CHANGING: pages.CHANGING,
    Access.REMOVING: pages.REMOVING,
    Access.STOPPED: pages.STOPPED,
}


class PageShown(Exception):
    """The request is answered with a page of the gateway.

    Args:
        page: the page.
        visit: the person and the bot, if the person may know that the bot exists.
    """

    def __init__(self, page: Page, visit: Visit | None = None) -> None:
        super().__init__(page.title)
        self.page = page
        self.bot_name = visit.bot_name if visit is not None else "This bot"


class SignInNeeded(Exception):
    """The request has no valid session."""


class Handler:
    """Handles requests.

    Args:
        settings: settings of this installation.
        client: the client for bots.
        threads: access to the database.
        cache: decides.
        exchanges: counts what runs.
        holding: lets requests wait during updates.
        headers: builds the headers for bots.
        log: receives a line for each request.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client: BotClient,
        threads: DatabaseThreads,
        cache: VisitCache,
        exchanges: Exchanges,
        holding: Holding,
        headers: BotHeaders,
        log: AccessLog,
    ) -> None:
        self._scheme = urlsplit(settings.base_url).scheme
        self._domain = settings.gateway.bots_domain or ""
        self._client = client
        self._threads = threads
        self._cache = cache
        self._exchanges = exchanges
        self._holding = holding
        self._headers = headers
        self._log = log
        self._renderer = PageRenderer(settings)
        self._sign_in = SignIn(settings, threads, self._renderer)
        self._probe: asyncio.Task[bool] | None = None

    async def handle(self, browser: BrowserRequest) -> None:
        """Answer a request and log it.

        Raises:
            ConnectionError: the client has not received the response.
        """
        record = AccessRecord(browser.method)
        try:
            response = await self._answer(browser, record)
        except (asyncio.CancelledError, ConnectionError):
            self._log.add(record.describe(_CLIENT_GONE, 0))
            raise
        except Exception as error:  # noqa: BLE001 - the client gets a response in any case
            response = self._explain(error, browser)
        if isinstance(response, OwnResponse):
            response = await self._send(response, browser, record)
        self._log.add(record.describe(response.status, response.size))

    async def _send(self, response: OwnResponse, browser: BrowserRequest, record: AccessRecord) -> Sent:
        try:
            return await send(response, browser.connection, is_head_request=browser.method == "HEAD")
        except (asyncio.CancelledError, ConnectionError):
            self._log.add(record.describe(_CLIENT_GONE, 0))
            raise

    def _explain(self, error: Exception, browser: BrowserRequest) -> OwnResponse:
        match error:
            case Refused():
                return refuse(error)
            case MalformedRequest():
                return text_response(HTTPStatus.BAD_REQUEST, "A header occurs several times.")
            case PageShown():
                return self._renderer.render(error.page, browser, bot_name=error.bot_name)
            case DatabaseUnavailable():
                return self._renderer.render(pages.NO_DECISION, browser)
        logger.error("could not answer a request", exc_info=error)
        if browser.is_answered:  # the browser has to notice that the response is incomplete
            browser.connection.abort()
        return self._renderer.render(pages.FAILED, browser)

    async def _answer(self, browser: BrowserRequest, record: AccessRecord) -> Sent | OwnResponse:
        check_form(browser)
        subdomain = find_subdomain(browser.host, self._domain, self._scheme)
        if subdomain is None:
            return await self._answer_other_host(browser, record)
        verdict = check_target(browser.target)
        if verdict is PathVerdict.MALFORMED:
            raise Refused(HTTPStatus.BAD_REQUEST, "This address is malformed.")
        if browser.path.startswith(GATEWAY_PREFIX):
            return await self._answer_own_path(browser, subdomain, record)
        if verdict is PathVerdict.CLOSED:
            raise PageShown(pages.NOT_FOUND)
        record.route = "socket" if browser.is_upgrade else "bot"
        check_origin(browser, self._find_url(subdomain))
        token = browser.find_cookie(self._sign_in.session_cookie)
        if token is None:
            return self._sign_in.redirect_to_portal(browser, subdomain)
        try:
            return await self._visit_bot(browser, subdomain, fingerprint(token), record)
        except SignInNeeded:
            return self._sign_in.redirect_to_portal(browser, subdomain)

    async def _answer_other_host(self, browser: BrowserRequest, record: AccessRecord) -> OwnResponse:
        if browser.path != "/healthz" or browser.method not in {"GET", "HEAD"}:
            return text_response(HTTPStatus.NOT_FOUND, "There is no bot at this address.")
        record.route = "healthz"
        if await self._ask_database():
            return OwnResponse(HTTPStatus.OK, b'{"status": "ok"}', "application/json; charset=utf-8")
        raise DatabaseUnavailable

    async def _ask_database(self) -> bool:
        """Return whether the database answers, with one query for all who ask at the same time: anyone may ask."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._threads.read(is_reachable))
        return await asyncio.shield(self._probe)

    async def _answer_own_path(self, browser: BrowserRequest, subdomain: str, record: AccessRecord) -> OwnResponse:
        if browser.method not in {"GET", "HEAD"}:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "This address only answers GET requests.")
        if browser.path == ENTER_PATH:
            record.route = "enter"
            return await self._sign_in.enter(browser, subdomain)
        if browser.path.startswith(ASSETS_PREFIX):
            record.route = "asset"
            return self._renderer.serve_asset(browser.path.removeprefix(ASSETS_PREFIX))
        raise PageShown(pages.NOT_FOUND)

    async def _visit_bot(
        self, browser: BrowserRequest, subdomain: str, token_hash: str, record: AccessRecord
    ) -> Sent:
        """Forward a request as soon as the person may enter, and again if the bot could not be reached."""
        deadline = time.monotonic() + limits.HOLD_SECONDS
        attempts = 0
        while True:
            entry, visit = await self._admit(subdomain, token_hash, deadline)
            record.bot_id, record.user_id = visit.bot_id, visit.user_id
            try:
                return await self._forward(browser, token_hash, entry, visit)
            except BotUnreachable as error:
                attempts += 1 if not error.was_sent else _MAX_ATTEMPTS - 1
                if attempts >= _MAX_ATTEMPTS:
                    raise PageShown(pages.UNREACHABLE, visit) from error
                # The bot may be stopped for an update, or have another address now: the row tells.
                self._cache.forget(token_hash)
                self._holding.check_now()
                await asyncio.sleep(_RETRY_SECONDS * attempts)
            except BadResponse as error:
                logger.warning("bot %s: %s", visit.bot_id, error)
                raise PageShown(pages.BAD_RESPONSE, visit) from error
            except BotTooSlow as error:
                raise PageShown(pages.TOO_SLOW, visit) from error
            except RequestIncomplete as error:
                raise Refused(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive completely.") from error

    async def _admit(self, subdomain: str, token_hash: str, deadline: float) -> tuple[CachedVisit, Visit]:
        """Return the visit when the person may enter now, after waiting for the end of an update.

        Raises:
            SignInNeeded: the session is not valid.
            PageShown: the person may not enter now.
        """
        while True:
            entry = await self._cache.find(token_hash)
            visit = entry.visit
            if visit is None or visit.subdomain != subdomain:
                raise SignInNeeded
            access = decide(visit.facts)
            if access is Access.ENTER and not self._holding.is_held(visit.bot_id):
                return entry, visit
            if access not in {Access.ENTER, Access.UPDATING}:
                raise PageShown(_PAGES[access], None if access is Access.NOT_FOUND else visit)
            try:
                is_released = await self._holding.wait(visit.bot_id, deadline)
            except TooManyHeld:
                is_released = False
            if not is_released:
                raise PageShown(pages.UPDATING, visit)

    async def _forward(self, browser: BrowserRequest, token_hash: str, entry: CachedVisit, visit: Visit) -> Sent:
        if self._exchanges.count_of_user(visit.user_id) >= limits.MAX_PER_USER:
            raise PageShown(pages.TOO_MANY, visit)
        if visit.address is None:
            raise BotUnreachable(was_sent=False)
        headers = self._headers.build(browser, visit)
        outer = self._find_url(visit.subdomain)
        exchange = Exchange(token_hash, visit, entry.read_at, lambda _code: browser.connection.abort())
        self._exchanges.begin(exchange)
        try:
            if browser.is_upgrade:
                return await tunnel.open_tunnel(self._client, browser, exchange, headers, outer)
            return await forwarding.forward(self._client, browser, exchange, headers, outer)
        finally:
            self._exchanges.end(exchange)

    def _find_url(self, subdomain: str) -> str:
        return f"{self._scheme}://{subdomain}.{self._domain}"

"""The endpoint that nginx asks with `auth_request`. Run as a process.

It decides as the gateway does, with the gateway's cache, rules and assertions: form, path and origin of the request,
session, bot and role. It answers with the identity. Its HTTP server is aiohttp on uvloop.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus

import uvloop
from aiohttp import web

from demo.bench.gateway.visitors import SESSION_COOKIE, SUBDOMAIN
from portal.database import Database
from portal.gateway.assertions import HEADER, Assertions
from portal.gateway.database_threads import DatabaseThreads
from portal.gateway.http.bodies import Body
from portal.gateway.http.connections import Connection
from portal.gateway.http.request_headers import read_headers
from portal.gateway.http.requests import BrowserRequest, Refused, check_form, check_origin
from portal.gateway.server import use_current_key
from portal.gateway.visit_cache import VisitCache
from portal.models.encrypted import use_keys
from portal.rules.bot_access import Access, decide
from portal.rules.bot_hosts import find_subdomain
from portal.rules.bot_paths import PathVerdict, check_target
from portal.rules.proxy_headers import build_identity
from portal.settings import Settings
from portal.tokens import fingerprint


class CheckEndpoint:
    """Answers 200 with the identity to requests of people who may enter, and otherwise 401 or 403.

    Args:
        settings: settings of the installation.
        threads: access to its database.
    """

    def __init__(self, settings: Settings, threads: DatabaseThreads) -> None:
        self._domain = settings.gateway.bots_domain or ""
        self._origin = f"http://{SUBDOMAIN}.{self._domain}"
        self._cache = VisitCache(threads)
        self._issuer = Assertions(settings.base_url)
        self._threads = threads

    async def start(self) -> None:
        """Load the key that signs assertions."""
        await use_current_key(self._threads, self._issuer)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Decide about the request that nginx has received."""
        browser = _to_browser_request(request)
        try:
            check_form(browser)
            check_origin(browser, self._origin)
        except Refused as refused:
            return web.Response(status=refused.status)
        if check_target(browser.target) is not PathVerdict.FORWARD:
            return web.Response(status=HTTPStatus.FORBIDDEN)
        token = browser.find_cookie(SESSION_COOKIE)
        visit = (await self._cache.find(fingerprint(token))).visit if token else None
        if visit is None or visit.subdomain != find_subdomain(browser.host, self._domain, "http"):
            return web.Response(status=HTTPStatus.UNAUTHORIZED)
        if decide(visit.facts) is not Access.ENTER:
            return web.Response(status=HTTPStatus.FORBIDDEN)
        identity = build_identity(visit.header_prefix, user_id=visit.user_id, email=visit.email, name=visit.name)
        return web.Response(headers=[*identity, (HEADER, self._issuer.issue(visit) or "")])


def _to_browser_request(request: web.BaseRequest) -> BrowserRequest:
    """Return the request of the browser, whose method and target nginx tells in headers."""
    return BrowserRequest(
        method=request.headers.get("X-Original-Method", request.method),
        target=request.headers.get("X-Original-Target", request.raw_path),
        version="1.1",
        headers=read_headers([part for header in request.raw_headers for part in header]),
        body=Body(lambda: None),
        connection=Connection(),
        keeps_connection=True,
    )


async def _serve(port: int) -> None:
    settings = Settings.from_environment()
    use_keys(settings.secret_key)
    endpoint = CheckEndpoint(settings, DatabaseThreads(Database(settings.database_url)))
    await endpoint.start()
    runner = web.ServerRunner(web.Server(endpoint.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))

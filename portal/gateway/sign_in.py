"""Signing in at the host of a bot: the way to the portal and back with a ticket. Used by the handler of requests."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qs, urlencode

from portal.gateway import pages
from portal.gateway.database_threads import DatabaseThreads
from portal.gateway.http.own_responses import OwnResponse, text_response
from portal.gateway.http.requests import BrowserRequest
from portal.gateway.pages import PageRenderer
from portal.models import utcnow
from portal.rules.bot_paths import is_local_path
from portal.services.accounts import sessions
from portal.services.gateway import entering
from portal.settings import Settings
from portal.tokens import generate_token

_STATE_SECONDS = 3600
"""How long a person may take to sign in at the portal."""


class SignIn:
    """Starts sessions at the hosts of bots.

    Args:
        settings: settings of this installation.
        threads: access to the database.
        renderer: renders pages.
    """

    def __init__(self, settings: Settings, threads: DatabaseThreads, renderer: PageRenderer) -> None:
        prefix = "__Host-" if settings.secure_cookies else ""
        self.session_cookie = f"{prefix}flotilla-gateway"
        self._state_cookie = f"{prefix}flotilla-gateway-state"
        self._settings = settings
        self._threads = threads
        self._renderer = renderer

    def redirect_to_portal(self, browser: BrowserRequest, subdomain: str) -> OwnResponse:
        """Send a person to the portal, which sends the browser back with a ticket. Scripts only get a status.

        The response is the same for bots that do not exist.
        """
        if not browser.is_navigation:
            return text_response(HTTPStatus.UNAUTHORIZED, "You are signed out. Reload the page to sign in.")
        if not browser.can_be_repeated:
            return self._renderer.render(pages.SIGNED_OUT, browser)
        # Several tabs that open at the same time share one state, so that each of them arrives.
        state = browser.find_cookie(self._state_cookie) or ""
        if not entering.is_state(state):
            state = generate_token()
        path = browser.target if len(browser.target) <= entering.MAX_PATH else "/"
        query = urlencode({"state": state, "path": path})
        response = _redirect(f"{self._settings.base_url}/open/{subdomain}?{query}")
        self._set_cookie(response, self._state_cookie, state, _STATE_SECONDS)
        return response

    async def enter(self, browser: BrowserRequest, subdomain: str) -> OwnResponse:
        """Exchange the ticket in the address for a session, and send the browser to the page that it wanted.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        query = parse_qs(browser.target.partition("?")[2])
        ticket, path = query.get("ticket", [""])[0], query.get("path", ["/"])[0]
        target = path if is_local_path(path) else "/"
        state = browser.find_cookie(self._state_cookie) or ""
        token = await self._redeem(ticket, subdomain, state) if entering.is_state(state) else None
        if token is None:
            # Another tab may have used up the state, or the person went back to this address in the history.
            has_session = browser.find_cookie(self.session_cookie) is not None
            return _redirect(target) if has_session else self._renderer.render(pages.EXPIRED, browser)
        response = _redirect(target)
        self._set_cookie(response, self.session_cookie, token, int(sessions.MAX_AGE.total_seconds()))
        return response

    async def _redeem(self, ticket: str, subdomain: str, state: str) -> str | None:
        redeem = partial(entering.redeem_ticket, ticket=ticket, subdomain=subdomain, state=state, now=utcnow())
        return await self._threads.write(redeem)

    def _set_cookie(self, response: OwnResponse, name: str, value: str, seconds: int) -> None:
        secure = "; Secure" if self._settings.secure_cookies else ""
        cookie = f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax{secure}"
        response.headers.append(("Set-Cookie", cookie))


def _redirect(location: str) -> OwnResponse:
    text = "Continue at the address in the header Location."
    return text_response(HTTPStatus.SEE_OTHER, text, ("Location", location))

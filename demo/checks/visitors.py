"""People who open their bots as browsers do: sign in to the portal, press Open, use the bot through the gateway.

Used by the end-to-end check.
"""

from __future__ import annotations

import html
import re
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import requests

from demo.checks.form_browser import FormBrowser
from demo.processes import DemoError
from portal.rules.bot_paths import ENTER_PATH

_LINK = re.compile(r'href="([^"]+)"')
_GREETING = re.compile("<p>(Hello, .*)</p>")
_SECONDS = 60
"""Longer than a request can be held by the gateway."""


class Visitor:
    """A person at the host of one bot. Not for several threads at the same time.

    Args:
        url: address of the bot for browsers.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # No name below `localhost` is in the DNS; browsers connect to this machine.
        host = urlsplit(url).netloc
        self._address = f"http://127.0.0.1:{urlsplit(url).port}"
        self._session = _open_session({"Host": host, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"})

    def get(self, path: str) -> requests.Response:
        """Open a page. Redirects are not followed."""
        return self._session.get(self._address + path, allow_redirects=False, timeout=_SECONDS)

    def read_greeting(self) -> str:
        """Return how the bot greets the person, as soon as the bot knows the person.

        Raises:
            DemoError: the bot shows no greeting in time.
        """
        deadline = time.monotonic() + _SECONDS
        while (page := self.get("/")).status_code == HTTPStatus.SERVICE_UNAVAILABLE and time.monotonic() < deadline:
            time.sleep(1)
        require_status(page, HTTPStatus.OK, f"{self.url} cannot be opened")
        if (found := _GREETING.search(page.text)) is None:
            raise DemoError(f"{self.url} shows no greeting")
        return html.unescape(found[1])

    def read_notes(self) -> list[str]:
        """Return all notes of the bot, oldest first.

        Raises:
            DemoError: the bot refused.
        """
        answer = self.get("/notes")
        require_status(answer, HTTPStatus.OK, f"{self.url} does not show its notes")
        notes: list[str] = answer.json()["notes"]
        return notes

    def add_note(self, text: str) -> requests.Response:
        """Submit the form for a new note."""
        return self._session.post(f"{self._address}/notes", {"text": text}, allow_redirects=False, timeout=_SECONDS)


class PortalVisitor:
    """A person who is signed in to the portal.

    Args:
        base_url: address of the portal.
        email: who signs in.
        password: the password.

    Raises:
        DemoError: the portal refused.
    """

    def __init__(self, base_url: str, email: str, password: str) -> None:
        self._base_url = base_url
        self._browser = FormBrowser(base_url)
        self._browser.submit("/login", "/login", email=email, password=password)

    def open_bot(self, slug: str, subdomain: str) -> Visitor:
        """Follow the link of a bot on the page of its organization, and return the person at the host of the bot.

        Raises:
            DemoError: there is no such link, or it does not lead to the bot.
        """
        url = self._find_link(f"/o/{slug}/", f"//{subdomain}.")
        visitor = Visitor(url)
        to_portal = visitor.get("/")
        require_status(to_portal, HTTPStatus.SEE_OTHER, f"{url} does not lead to the portal")
        path = to_portal.headers["Location"].removeprefix(self._base_url)
        ticket = urlsplit(self._find_link(path, ENTER_PATH))
        entered = visitor.get(f"{ticket.path}?{ticket.query}")
        require_status(entered, HTTPStatus.SEE_OTHER, f"{url} did not accept the ticket")
        return visitor

    def _find_link(self, path: str, part: str) -> str:
        page = self._browser.open(path)
        links = (html.unescape(link) for link in _LINK.findall(page))
        if (found := next((link for link in links if part in link), None)) is None:
            raise DemoError(f"the page {urlsplit(path).path} of the portal has no link with {part}")
        return found


def _open_session(headers: dict[str, str]) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers.update(headers)
    return session


def require_status(answer: requests.Response, expected: int, failure: str) -> None:
    """Check the status of a response.

    Raises:
        DemoError: the status is another one; the message begins with `failure`.
    """
    if answer.status_code != expected:
        raise DemoError(f"{failure}: status {answer.status_code} instead of {expected}")

"""Fixtures for tests in a real browser: the running portal, a small fleet, and signed-in pages."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from demo.processes import free_port
from portal.database import Database
from portal.models import utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name
from tests import factories
from tests.support.portal import running_portal
from tests.support.scene import Scene, small_fleet

# The library's 5 seconds are too short while other tests use all processors.
expect.set_options(timeout=20_000)


@pytest.fixture
def gateway_port() -> int:
    """Return the port of the gateway, which only runs in tests that start it."""
    return free_port()


@pytest.fixture
def portal(settings: Settings, redis_url: str, gateway_port: int) -> Iterator[str]:
    """Run the portal and return its URL."""
    changed = replace(
        settings,
        redis_url=redis_url,
        gateway=replace(settings.gateway, bots_domain=f"localhost:{gateway_port}"),
        fleet_image_allowlist=("registry.example",),
    )
    with running_portal(changed) as url:
        yield url


@pytest.fixture
def scene(database: Database) -> Scene:
    """Acme, owned by alice, has three bots on 1.4.0 while 1.5.0 is out; root operates the platform."""
    with database.transaction() as session:
        alice = factories.user(session, "alice", id="alice")
        factories.user(session, "root", id="root", is_platform_admin=True)
        org = factories.org(session, alice)
        return small_fleet(session, org)


Open = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _bear_changes_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a navigation that Chromium gave up because containers of other tests changed the machine's network."""
    goto = Page.goto

    def repeat(page: Page, url: str, **options: Any) -> Any:
        for _ in range(10):
            try:
                return goto(page, url, **options)
            except Error as error:
                if "ERR_NETWORK_CHANGED" not in error.message:
                    raise
        return goto(page, url, **options)

    monkeypatch.setattr(Page, "goto", repeat)


@pytest.fixture
def visit(page: Page, portal: str, settings: Settings, database: Database) -> Open:
    """Return a function that opens a page as a user, or signed out as `signed-out`."""

    def open_page(user: str, path: str) -> None:
        # Without its cookies, a page that refreshes itself would go to the sign-in and end the navigation below.
        page.goto("about:blank")
        page.context.clear_cookies()
        if user != "signed-out":
            sign_in(page.context, portal, settings, database, user)
        page.goto(portal + path)

    return open_page


def sign_in(context: BrowserContext, portal: str, settings: Settings, database: Database, user: str) -> None:
    """Give a browser the session cookie of a user."""
    with database.transaction() as session:
        token = sessions.start(session, user, now=utcnow(), user_agent="browser", ip="127.0.0.1")
    context.add_cookies([{"name": session_cookie_name(settings), "value": token, "url": portal}])

"""The portal served to a real browser."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Thread

import pytest
from playwright.sync_api import BrowserContext, Page
from werkzeug.serving import make_server

from portal.app import create_app
from portal.database import Database
from portal.models import Membership, MembershipRole, Org, User, utcnow
from portal.services.accounts import sessions
from portal.settings import Settings
from portal.web.security import session_cookie_name
from tests.support.scene import Scene, small_fleet


@pytest.fixture
def portal(settings: Settings, redis_url: str) -> Iterator[str]:
    """Address of the running portal."""
    server = make_server("127.0.0.1", 0, lambda _environ, _start: [], threaded=True)
    address = f"http://127.0.0.1:{server.server_port}"
    server.app = create_app(
        replace(settings, redis_url=redis_url, base_url=address, fleet_image_allowlist=("registry.example",))
    )
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scene(database: Database) -> Scene:
    """Acme, owned by alice, has three bots on 1.4.0 while 1.5.0 is out; root operates the platform."""
    with database.transaction() as session:
        alice = User(id="alice", email="alice@example.com", email_normalized="alice@example.com", name="Alice")
        root = User(
            id="root",
            email="root@example.com",
            email_normalized="root@example.com",
            name="Root",
            is_platform_admin=True,
        )
        session.add_all([alice, root])
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=alice.id)
        session.add(org)
        session.flush()
        session.add(Membership(org_id=org.id, user_id=alice.id, role=MembershipRole.ADMIN))
        return small_fleet(session, org)


Open = Callable[[str, str], None]


@pytest.fixture
def visit(page: Page, portal: str, settings: Settings, database: Database) -> Open:
    """Open a page as somebody; as `nobody`, signed out."""

    def open_page(person: str, path: str) -> None:
        page.context.clear_cookies()
        if person != "nobody":
            sign_in(page.context, portal, settings, database, person)
        page.goto(portal + path)

    return open_page


def sign_in(context: BrowserContext, portal: str, settings: Settings, database: Database, person: str) -> None:
    """Give a browser the session cookie of a person."""
    with database.transaction() as session:
        token = sessions.start(session, person, now=utcnow(), user_agent="browser", ip="127.0.0.1")
    context.add_cookies([{"name": session_cookie_name(settings), "value": token, "url": portal}])

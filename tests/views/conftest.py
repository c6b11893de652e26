"""A portal and its cast: alice owns Acme, carol is admin there, bob member; mallory is an outsider, root operates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.app import create_app
from portal.database import Database
from portal.extensions import db
from portal.models import Membership, MembershipRole, Org, User, utcnow
from portal.security import session_cookie_name
from portal.services import sessions
from portal.settings import Settings
from tests.support.scene import Scene, small_fleet


@dataclass(frozen=True)
class Cast:
    """Ids of the people, by name, and of their organization."""

    people: dict[str, str]
    org_id: str


@pytest.fixture
def app(settings: Settings, redis_url: str) -> Iterator[Flask]:
    """The portal on this test's database."""
    app = create_app(
        replace(
            settings, redis_url=redis_url, base_url="http://localhost", fleet_image_allowlist=("registry.example",)
        )
    )
    app.testing = True
    # One test proves that tokens are asked for; in all others they would only be in the way.
    app.config["WTF_CSRF_ENABLED"] = False
    yield app
    app.extensions["redis"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def cast(database: Database) -> Cast:
    """The people and Acme in the database."""
    with database.transaction() as session:
        people = {
            name: User(email=f"{name}@example.com", email_normalized=f"{name}@example.com", name=name.title())
            for name in ("alice", "bob", "carol", "mallory", "root")
        }
        people["root"].is_platform_admin = True
        session.add_all(people.values())
        session.flush()
        org = Org(slug="acme", name="Acme", owner_id=people["alice"].id)
        session.add(org)
        session.flush()
        for name, role in (("alice", "admin"), ("bob", "member"), ("carol", "admin")):
            session.add(Membership(org_id=org.id, user_id=people[name].id, role=MembershipRole(role)))
        return Cast(people={name: user.id for name, user in people.items()}, org_id=org.id)


SignedIn = Callable[[str], FlaskClient]


@pytest.fixture
def signed_in(app: Flask, settings: Settings, database: Database, cast: Cast) -> SignedIn:
    """Make a browser signed in as somebody of the cast."""

    def client_of(name: str) -> FlaskClient:
        with database.transaction() as session:
            token = sessions.start(session, cast.people[name], now=utcnow(), user_agent="test", ip="127.0.0.1")
        client = app.test_client()
        client.set_cookie(session_cookie_name(settings), token)
        client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
        # As our script does for the page it runs in.
        client.environ_base["HTTP_X_TENANT_ID"] = cast.org_id
        return client

    return client_of


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A browser that nobody is signed in with."""
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return client


@pytest.fixture
def scene(database: Database, cast: Cast) -> Scene:
    """Acme has three bots on 1.4.0, and 1.5.0 is out."""
    with database.transaction() as session:
        return small_fleet(session, session.get_one(Org, cast.org_id))

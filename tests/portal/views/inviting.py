"""Helpers that send, copy and answer Acme's invites through pages and mails. Used by the tests of invites."""

import re
from dataclasses import dataclass

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import Event, Invite, Membership, MembershipState, OutgoingMail, User
from tests import factories
from tests.portal.views import people
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import MailDelivery

NEW = "new@example.com"
PASSWORD = "grumpy lantern over wet gravel"
HTMX = {"HX-Request": "true"}


@dataclass
class Inviting:
    """Acme's invites in the database, its mails, and browsers that send and answer invites."""

    app: Flask
    database: Database
    cast: Cast
    mailer: MailDelivery
    signed_in: SignedIn

    def post_form(self, by: FlaskClient, email: str = NEW, role: str = "member") -> TestResponse:
        """Submit the invite form of the team page."""
        return by.post("/o/acme/team/invites", data={"email": email, "role": role})

    def invite(self, email: str = NEW, role: str = "member", by: str = "alice") -> str:
        """Send an invite and return the path of the link in its mail."""
        response = self.post_form(self.signed_in(by), email, role)
        assert response.status_code == 303, response.text
        return self.mailer.deliver_link_to(email)

    def copy_link(self, by: str = "alice") -> str:
        """Copy a link to the latest invite and return its path."""
        response = self.signed_in(by).post(f"/o/acme/team/invites/{self.latest_invite().id}/link")
        assert response.status_code == 200
        (path,) = set(re.findall(r"http://localhost(/invite/[\w-]+)", response.text))
        return str(path)

    def press(self, by: FlaskClient, button: str) -> TestResponse:
        """Press a button of the latest invite in the list of pending invites."""
        return by.post(f"/o/acme/team/invites/{self.latest_invite().id}/{button}")

    def new_client(self) -> FlaskClient:
        """Return a signed-out test client."""
        return people.new_client(self.app)

    def add_person(self, name: str, email: str = NEW) -> FlaskClient:
        """Add a user without an organization and return a browser signed in as that user."""
        with self.database.transaction() as session:
            self.cast.people[name] = factories.user(session, name, email=email).id
        return self.signed_in(name)

    def all_invites(self) -> list[Invite]:
        """Return all invites, the oldest first."""
        with self.database.reading() as session:
            return session.query(Invite).order_by(Invite.created_at).all()

    def latest_invite(self) -> Invite:
        """Return the invite that was created last."""
        return self.all_invites()[-1]

    def mails(self) -> list[OutgoingMail]:
        """Return all mails of the outbox, the oldest first."""
        with self.database.reading() as session:
            return session.query(OutgoingMail).order_by(OutgoingMail.created_at).all()

    def role_of(self, email: str = NEW) -> str | None:
        """Return the stored role of an Acme member by email; None when there is no such member."""
        with self.database.reading() as session:
            membership = (
                session.query(Membership)
                .join(User, User.id == Membership.user_id)
                .filter(User.email_normalized == email.lower(), Membership.org_id == self.cast.org_id)
                .filter(Membership.state == MembershipState.ACTIVE)
                .one_or_none()
            )
            return str(membership.role) if membership else None

    def events(self, *tags: str) -> list[Event]:
        """Return the events with one of these tags, the oldest first."""
        with self.database.reading() as session:
            return session.query(Event).filter(Event.tag.in_(tags)).order_by(Event.id).all()


def follow(client: FlaskClient, link: str) -> TestResponse:
    """Follow an invite link and return the invite page."""
    response = client.get(link)
    assert (response.status_code, response.location) == (303, "/invite"), "the token stays in the address"
    return client.get("/invite")


def submit(client: FlaskClient, action: str, page: TestResponse | None = None, **data: str) -> TestResponse:
    """Submit a form of the invite page as shown in `page`, or of the page as shown now."""
    text = (page or client.get("/invite")).text
    found = re.search(r'name="seen" value="([\w-]+)"', text)
    return client.post(f"/invite/{action}", data={"seen": found[1] if found else "", **data})


def join(client: FlaskClient, name: str = "Nora", password: str = PASSWORD) -> TestResponse:
    """Create an account on the invite page and join the organization."""
    return submit(client, "join", name=name, password=password)

"""Inviting and being invited, as pages and mails do it."""

import re
from dataclasses import dataclass

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import Event, Invite, Membership, MembershipState, OutgoingMail, User
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import Post

NEW = "new@example.com"
PASSWORD = "grumpy lantern over wet gravel"
HTMX = {"HX-Request": "true"}


@dataclass
class Inviting:
    """Acme's invites, and browsers to deal with them."""

    app: Flask
    database: Database
    cast: Cast
    post: Post
    signed_in: SignedIn

    def send(self, by: FlaskClient, email: str = NEW, role: str = "member") -> TestResponse:
        """Send the form of the team's page."""
        return by.post("/o/acme/team/invites", data={"email": email, "role": role})

    def invited(self, email: str = NEW, role: str = "member", by: str = "alice") -> str:
        """Have somebody invited; the path of the link in the mail."""
        answer = self.send(self.signed_in(by), email, role)
        assert answer.status_code == 303, answer.text
        return self.post.link(email)

    def copied(self, by: str = "alice") -> str:
        """Have a link to the newest invite copied; its path."""
        answer = self.signed_in(by).post(f"/o/acme/team/invites/{self.row().id}/link")
        assert answer.status_code == 200
        (found,) = set(re.findall(r"http://localhost(/invite/[\w-]+)", answer.text))
        return str(found)

    def verb(self, by: FlaskClient, verb: str) -> TestResponse:
        """Press a button of the newest invite in the list."""
        return by.post(f"/o/acme/team/invites/{self.row().id}/{verb}")

    def browser(self) -> FlaskClient:
        """One that nobody is signed in with."""
        client = self.app.test_client()
        client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
        return client

    def add_person(self, name: str, email: str = NEW) -> FlaskClient:
        """Give somebody an account without any organization; their browser."""
        with self.database.transaction() as session:
            user = User(email=email, email_normalized=email.lower(), name=name)
            session.add(user)
            session.flush()
            self.cast.people[name] = user.id
        return self.signed_in(name)

    def rows(self) -> list[Invite]:
        """All invites, the oldest first."""
        with self.database.reading() as session:
            return session.query(Invite).order_by(Invite.created_at).all()

    def row(self) -> Invite:
        """The newest invite."""
        return self.rows()[-1]

    def mails(self) -> list[OutgoingMail]:
        """The outbox, the oldest first."""
        with self.database.reading() as session:
            return session.query(OutgoingMail).order_by(OutgoingMail.created_at).all()

    def role_of(self, email: str = NEW) -> str | None:
        """The stored role of whoever has the address; None for who does not belong to Acme."""
        with self.database.reading() as session:
            row = (
                session.query(Membership)
                .join(User, User.id == Membership.user_id)
                .filter(User.email_normalized == email.lower(), Membership.org_id == self.cast.org_id)
                .filter(Membership.state == MembershipState.ACTIVE)
                .one_or_none()
            )
            return str(row.role) if row else None

    def events(self, *tags: str) -> list[Event]:
        """What the log says of these."""
        with self.database.reading() as session:
            return session.query(Event).filter(Event.tag.in_(tags)).order_by(Event.id).all()


def follow(client: FlaskClient, link: str) -> TestResponse:
    """Click a link; the page of the invite."""
    answer = client.get(link)
    assert (answer.status_code, answer.location) == (303, "/invite"), "the token leaves the address"
    return client.get("/invite")


def answer(client: FlaskClient, verb: str, page: TestResponse | None = None, **data: str) -> TestResponse:
    """Press a button on the page of an invite, as seen in `page` or now."""
    text = (page or client.get("/invite")).text
    found = re.search(r'name="seen" value="([\w-]+)"', text)
    return client.post(f"/invite/{verb}", data={"seen": found[1] if found else "", **data})


def join(client: FlaskClient, name: str = "Nora", password: str = PASSWORD) -> TestResponse:
    """Make the account on the page of the invite."""
    return answer(client, "join", name=name, password=password)

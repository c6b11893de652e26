"""Limits that keep the portal from relaying spam: per recipient, per account, and organizations per person."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from portal.database import Database
from portal.models import Org, OrgState, OutgoingMail, User, utcnow
from portal.views.support import mail_limits
from portal.web.extensions import db
from tests import factories
from tests.portal.views.org.concurrency import Request, run_together
from tests.portal.views.people import PASSWORD, give_password
from tests.support.cast import Cast, SignedIn
from tests.support.outbox import MailDelivery, bodies

VICTIM = "victim@example.com"


@pytest.fixture
def mallory(signed_in: SignedIn, database: Database, cast: Cast) -> FlaskClient:
    """A browser of a new account that owns three organizations."""
    with database.transaction() as session:
        user = session.get_one(User, cast.people["mallory"])
        for number in range(3):
            factories.org(session, user, f"org-{number}")
    give_password(database, cast, "mallory", "bob")
    client = signed_in("mallory")
    del client.environ_base["HTTP_X_TENANT_ID"]
    return client


def age(database: Database, name: str) -> None:
    """Make an account too old to count as new."""
    with database.transaction() as session:
        user = session.query(User).filter_by(email=f"{name}@example.com").one()
        user.created_at = utcnow() - mail_limits.NEW_ACCOUNT


def invite(client: FlaskClient, email: str, org: int = 0) -> int:
    """Invite an email to one of Mallory's organizations and return the status."""
    data = {"email": email, "role": "member"}
    return client.post(f"/o/org-{org}/team/invites", data=data).status_code


def change_email(client: FlaskClient, email: str) -> int:
    """Ask for a mail to a new email of the account and return the status."""
    data = {"address-email": email, "address-current_password": PASSWORD}
    return client.post("/account/address", data=data).status_code


def count_mails(database: Database) -> int:
    """Return the number of mails in the outbox."""
    with database.reading() as session:
        return session.query(OutgoingMail).count()


def test_one_recipient_gets_six_mails_an_hour_over_all_purposes_and_tags(
    mallory: FlaskClient, stranger: FlaskClient, signed_in: SignedIn, database: Database
) -> None:
    bob = signed_in("bob")
    requests: list[Callable[[str], int]] = [
        lambda email: stranger.post("/signup", data={"email": email}).status_code,
        lambda email: stranger.post("/forgot", data={"email": email}).status_code,
        lambda email: invite(mallory, email, 0),
        lambda email: invite(mallory, email, 1),
        lambda email: change_email(bob, email),
    ]
    for number, request in enumerate([*requests, requests[0]]):
        assert request(f"victim+{number}@example.com") == 303
    for request in requests:
        assert request(VICTIM) == 429
    assert count_mails(database) == 6
    assert invite(mallory, "other@example.com") == 303


def test_redis_holds_no_addresses(mallory: FlaskClient, redis_url: str) -> None:
    invite(mallory, VICTIM)
    with Redis.from_url(redis_url) as redis:
        keys = redis.keys("*")
    assert any(b"recipient" in key for key in keys)
    assert not any(b"victim" in key for key in keys)


@pytest.mark.parametrize(("is_new", "most"), [(True, 20), (False, 50)])
def test_an_account_mails_a_limited_number_of_people_a_day_over_all_organizations(
    mallory: FlaskClient, database: Database, is_new: bool, most: int
) -> None:
    if not is_new:
        age(database, "mallory")
    statuses = [invite(mallory, f"n{number}@example.com", number % 3) for number in range(most + 1)]
    assert statuses == [303] * most + [429]
    assert change_email(mallory, "new@example.com") == 429


def test_an_account_asks_for_five_email_changes_a_day(mallory: FlaskClient) -> None:
    statuses = [change_email(mallory, f"n{number}@example.com") for number in range(6)]
    assert statuses == [303] * 5 + [429]


def create(client: FlaskClient, name: str = "Another") -> TestResponse:
    """Create an organization."""
    return client.post("/orgs/new", data={"name": name})


def test_one_person_owns_five_organizations_at_most(mallory: FlaskClient, database: Database) -> None:
    assert [create(mallory, f"More {number}").status_code for number in range(3)] == [303, 303, 422]
    refused = create(mallory)
    assert "One person can own at most 5 organizations" in refused.text
    # An organization that can be restored still counts, a deleted one does not.
    for state, status in ((OrgState.DELETING, 422), (OrgState.DELETED, 303)):
        with database.transaction() as session:
            session.query(Org).filter_by(slug="org-0").one().state = state
        assert create(mallory).status_code == status


@pytest.mark.slow
def test_parallel_requests_do_not_exceed_the_number_of_organizations(
    mallory: FlaskClient, app: Flask, signed_in: SignedIn, database: Database, cast: Cast
) -> None:
    def prepare(number: int) -> Request:
        client = signed_in("mallory")
        return lambda: create(client, f"More {number}").status_code

    statuses = run_together([prepare(number) for number in range(6)])
    assert sorted(statuses) == [303, 303, 422, 422, 422, 422]
    with database.reading() as session:
        assert session.query(Org).filter_by(owner_id=cast.people["mallory"]).count() == 5
    with app.app_context():
        db.engine.dispose()


def test_ownership_cannot_be_accepted_beyond_the_limit(
    mallory: FlaskClient, app: Flask, database: Database, cast: Cast
) -> None:
    app.extensions["settings"] = replace(app.extensions["settings"], max_owned_orgs=3)
    with database.transaction() as session:
        org = session.get_one(Org, cast.org_id)
        factories.membership(session, org, session.get_one(User, cast.people["mallory"]))
        org.transfer_to, org.transfer_expires_at = cast.people["mallory"], utcnow().replace(year=2100)
    refused = mallory.post("/o/acme/transfer/accept")
    assert refused.status_code == 422
    assert "at most 3 organizations" in refused.text
    with database.reading() as session:
        assert session.get_one(Org, cast.org_id).owner_id == cast.people["alice"]


def test_no_organization_can_be_created_where_the_limit_is_zero(app: Flask, signed_in: SignedIn) -> None:
    app.extensions["settings"] = replace(app.extensions["settings"], max_owned_orgs=0)
    refused = create(signed_in("alice"))
    assert refused.status_code == 422
    assert "can own no organization" in refused.text


def test_mail_to_a_stranger_has_words_of_its_sender_only_in_its_body(
    mallory: FlaskClient, database: Database, mailer: MailDelivery
) -> None:
    spam = "Win $1,000,000 now, call +1 555 0100"
    with database.transaction() as session:
        session.query(Org).filter_by(slug="org-0").one().name = spam
        session.query(User).filter_by(email="mallory@example.com").one().name = spam
    assert invite(mallory, VICTIM) == 303
    message = mailer.deliver_one_to(VICTIM)
    assert message["Subject"] == "You have been invited to an organization on Flotilla"
    assert "Win" in bodies(message)[0]
    assert not any("Win" in str(value) for value in message.values())

"""The outbox: written with its reason, asked for after the commit, shown to operators, sent again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from daemon.context import Context
from daemon.scheduler import Scheduler
from portal.database import Database
from portal.models import Event, MailState, OutgoingMail, TokenPurpose, utcnow
from portal.queue import connect, open_queue
from portal.services.mail import delivery, outbox
from tests.daemon.mail.conftest import add_token
from tests.daemon.processes import running, wait_until
from tests.support.cast import Cast, SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import Office


def test_the_same_matter_is_mailed_once_however_often_it_is_posted(database: Database) -> None:
    def write(_: int) -> str:
        with database.transaction() as session:
            return outbox.queue_mail(session, to="a@example.com", template="signup", dedupe_key="one", context={}).id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(write, range(16)))

    assert len(ids) == 1
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(OutgoingMail)) == 1


def test_a_mail_whose_reason_failed_is_not_written(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            outbox.queue_mail(session, to="a@example.com", template="signup", dedupe_key="one", context={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    with database.reading() as session:
        assert outbox.find_by_dedupe_key(session, ["one"]) == {}


def test_operators_see_what_waits_and_why(office: Office, signed_in: SignedIn) -> None:
    office.serves(Mailbox())
    office.post("signup", token_id=add_token(office.database, TokenPurpose.SIGNUP))
    office.send_due()

    page = signed_in("root").get("/admin/mail/").text

    assert "new@example.com" in page
    assert "cannot be reached: Connection refused" in page
    assert "Try now" in page


@pytest.mark.parametrize("name", ["alice", "bob", "carol", "mallory"])
def test_nobody_else_sees_the_outbox_or_sends_from_it(office: Office, signed_in: SignedIn, name: str) -> None:
    mail_id = office.post("signup", token_id="x")
    client = signed_in(name)

    assert client.get("/admin/mail/").status_code == 403
    assert client.post(f"/admin/mail/{mail_id}/resend").status_code == 403


def test_a_signed_out_visitor_is_led_to_sign_in(cast: Cast, stranger: FlaskClient) -> None:
    answer = stranger.get("/admin/mail/")

    assert answer.status_code == 303
    assert "/login" in answer.headers["Location"]


def test_pages_of_one_state(office: Office, signed_in: SignedIn) -> None:
    for number in range(55):
        office.post("signup", to=f"person-{number}@example.com", token_id=str(number))
    with office.database.transaction() as session:
        session.execute(
            sa.update(OutgoingMail)
            .where(OutgoingMail.to == "person-7@example.com")
            .values(state=MailState.FAILED, last_error="550 unknown")
        )
    client = signed_in("root")

    assert "page 1 of 2" in client.get("/admin/mail/").text
    assert client.get("/admin/mail/?page=2").text.count("person-") == 2 * 5  # the address, and the button's label
    failed = client.get("/admin/mail/?state=failed").text
    assert "550 unknown" in failed
    assert "person-8@" not in failed
    assert client.get("/admin/mail/?state=nonsense&page=nonsense").status_code == 200


def _fail(office: Office, mail_id: str) -> None:
    with office.database.transaction() as session:
        attempt = delivery.claim_attempt(session, mail_id, "example.com", utcnow())
        assert attempt is not None
        delivery.mark_refused(session, attempt, "550 unknown")


def _wait(office: Office, mail_id: str) -> None:
    with office.database.transaction() as session:
        session.get_one(OutgoingMail, mail_id).next_attempt_at = utcnow() + timedelta(hours=1)


def _send(office: Office, _mail_id: str) -> None:
    office.send_due()


@pytest.mark.parametrize(("before", "copies"), [(_fail, 1), (_wait, 1), (_send, 2)])
def test_sending_again(
    office: Office, signed_in: SignedIn, smtp: Mailbox, before: Callable[[Office, str], None], copies: int
) -> None:
    mail_id = office.post("signup", token_id=add_token(office.database, TokenPurpose.SIGNUP))
    before(office, mail_id)

    answer = signed_in("root").post(f"/admin/mail/{mail_id}/resend")
    office.send_due()

    assert answer.status_code == 303
    assert office.row(mail_id).state is MailState.SENT
    assert len(smtp.messages) == copies
    # A copy under the same id would be hidden by the recipient's mail program.
    assert len({message["Message-ID"] for message in smtp.messages}) == copies
    with office.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "mail.resent")).one()
        assert event.data["mail"] == mail_id


def test_what_is_being_sent_is_not_sent_again(office: Office, signed_in: SignedIn) -> None:
    mail_id = office.post("signup", token_id="x")
    with office.database.transaction() as session:
        assert delivery.claim_attempt(session, mail_id, "example.com", utcnow())

    assert signed_in("root").post(f"/admin/mail/{mail_id}/resend").status_code == 409
    assert signed_in("root").post("/admin/mail/nothing/resend").status_code == 404


def test_the_portal_asks_for_its_mails_once_they_are_committed(
    office: Office, signed_in: SignedIn, redis_url: str
) -> None:
    mail_id = office.post("signup", token_id="x")
    queue = open_queue(connect(redis_url))
    assert queue.jobs == []

    signed_in("root").post(f"/admin/mail/{mail_id}/resend")

    assert [(job.func_name, job.args) for job in queue.jobs] == [("daemon.jobs.send_mail", [mail_id])]


def test_with_redis_gone_the_portal_still_takes_mail(office: Office, signed_in: SignedIn, app: Flask) -> None:
    mail_id = office.post("signup", token_id="x")
    client = signed_in("root")
    app.extensions["redis"] = Redis.from_url("unix:///nowhere.sock")

    assert client.post(f"/admin/mail/{mail_id}/resend").status_code == 303


def test_scheduler_and_worker_bring_it_out(
    office: Office, redis_url: str, smtp: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.post("signup", token_id=add_token(office.database, TokenPurpose.SIGNUP))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("MAIL_SERVER", smtp.host)
    monkeypatch.setenv("MAIL_PORT", str(smtp.port))
    monkeypatch.setenv("WORKER_PROCESSES", "2")

    Scheduler(Context(office.settings, office.database, connect(redis_url))).turn(utcnow())
    with running("daemon.cli", "worker", log=tmp_path / "log"):
        smtp.wait_for(1)
        wait_until(lambda: _all_sent(office), "it is written down")

    assert "/signup/" not in (tmp_path / "log").read_text()


def _all_sent(office: Office) -> bool:
    with office.database.reading() as session:
        return set(session.scalars(sa.select(OutgoingMail.state))) == {MailState.SENT}

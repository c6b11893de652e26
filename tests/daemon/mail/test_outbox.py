"""The outbox: queueing, the operators' page, resending, and delivery by scheduler and worker."""

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
from daemon.mail.composers import COMPOSERS
from daemon.scheduler import Scheduler
from portal.database import Database
from portal.models import Event, MailState, OutgoingMail, TokenPurpose, User, utcnow
from portal.queue import MAIL_QUEUE, connect, open_queue
from portal.services.errors import ConflictError
from portal.services.mail import delivery, outbox
from portal.views.admin.mail import TYPE_LABELS
from tests.daemon.mail.conftest import add_token
from tests.daemon.processes import running, wait_until
from tests.support.cast import Cast, SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import OutboxWorker


def test_emails_with_the_same_dedupe_key_are_queued_once(database: Database) -> None:
    def queue(_: int) -> str:
        with database.transaction() as session:
            return outbox.queue_mail(session, to="a@example.com", template="signup", dedupe_key="one", context={}).id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(queue, range(16)))

    assert len(ids) == 1
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(OutgoingMail)) == 1


def test_email_is_not_queued_when_its_transaction_fails(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            outbox.queue_mail(session, to="a@example.com", template="signup", dedupe_key="one", context={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    with database.reading() as session:
        assert outbox.find_by_dedupe_key(session, ["one"]) == {}


def test_operators_see_waiting_emails_and_the_last_error(mail_worker: OutboxWorker, signed_in: SignedIn) -> None:
    mail_worker.use_server(Mailbox())
    mail_worker.queue("signup", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP))
    mail_worker.send_due()

    page = signed_in("root").get("/admin/mail/").text

    assert "new@example.com" in page
    assert "cannot be reached: Connection refused" in page
    assert "Try now" in page
    assert "Sign-up" in page


def test_every_email_has_a_label_for_operators() -> None:
    assert set(TYPE_LABELS) == set(COMPOSERS)


@pytest.mark.parametrize("name", ["alice", "bob", "carol", "mallory"])
def test_only_operators_may_open_the_outbox_and_resend(
    mail_worker: OutboxWorker, signed_in: SignedIn, name: str
) -> None:
    mail_id = mail_worker.queue("signup", token_id="x")
    client = signed_in(name)

    assert client.get("/admin/mail/").status_code == 403
    assert client.post(f"/admin/mail/{mail_id}/resend").status_code == 403
    assert client.post("/admin/mail/dismiss", data={"mail": mail_id}).status_code == 403


def test_signed_out_visitor_is_redirected_to_sign_in(cast: Cast, stranger: FlaskClient) -> None:
    answer = stranger.get("/admin/mail/")

    assert answer.status_code == 303
    assert "/login" in answer.headers["Location"]


def test_outbox_is_paged_and_filtered_by_state(mail_worker: OutboxWorker, signed_in: SignedIn) -> None:
    for number in range(55):
        mail_worker.queue("signup", to=f"person-{number}@example.com", token_id=str(number))
    with mail_worker.database.transaction() as session:
        session.execute(
            sa.update(OutgoingMail)
            .where(OutgoingMail.to == "person-7@example.com")
            .values(state=MailState.FAILED, last_error="550 unknown")
        )
    client = signed_in("root")

    assert "page 1 of 2" in client.get("/admin/mail/").text
    assert (
        client.get("/admin/mail/?page=2").text.count("person-") == 2 * 5
    )  # in the address and in the label of the button
    failed = client.get("/admin/mail/?state=failed").text
    assert "550 unknown" in failed
    assert "person-8@" not in failed
    assert client.get("/admin/mail/?state=nonsense&page=nonsense").status_code == 200


def _fail(mail_worker: OutboxWorker, mail_id: str) -> None:
    with mail_worker.database.transaction() as session:
        attempt = delivery.claim_attempt(session, mail_id, "example.com", utcnow())
        assert attempt is not None
        delivery.mark_failed(session, attempt, "550 unknown")


def _wait(mail_worker: OutboxWorker, mail_id: str) -> None:
    with mail_worker.database.transaction() as session:
        session.get_one(OutgoingMail, mail_id).next_attempt_at = utcnow() + timedelta(hours=1)


def _send(mail_worker: OutboxWorker, _mail_id: str) -> None:
    mail_worker.send_due()


@pytest.mark.parametrize(("before", "copies"), [(_fail, 1), (_wait, 1), (_send, 2)])
def test_resending_sends_one_new_copy(
    mail_worker: OutboxWorker,
    signed_in: SignedIn,
    smtp: Mailbox,
    before: Callable[[OutboxWorker, str], None],
    copies: int,
) -> None:
    mail_id = mail_worker.queue("signup", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP))
    before(mail_worker, mail_id)

    answer = signed_in("root").post(f"/admin/mail/{mail_id}/resend")
    mail_worker.send_due()

    assert answer.status_code == 303
    assert mail_worker.get_mail(mail_id).state is MailState.SENT
    assert len(smtp.messages) == copies
    # Mail programs hide a second copy with the same Message-ID.
    assert len({message["Message-ID"] for message in smtp.messages}) == copies
    with mail_worker.database.reading() as session:
        event = session.scalars(sa.select(Event).where(Event.tag == "mail.resent")).one()
        assert event.data["mail"] == mail_id


def _queue_failed(mail_worker: OutboxWorker, *names: str) -> list[str]:
    ids = [mail_worker.queue("signup", to=f"{name}@example.com", token_id=name) for name in names]
    for mail_id in ids:
        _fail(mail_worker, mail_id)
    return ids


def test_operators_are_told_how_many_emails_failed(mail_worker: OutboxWorker, signed_in: SignedIn) -> None:
    root = signed_in("root")
    mail_worker.queue("signup", token_id="waiting")
    assert "All clear" in root.get("/admin/").text

    _queue_failed(mail_worker, "ann", "ben")

    overview = root.get("/admin/").text
    assert "All clear" not in overview
    assert '<a href="/admin/mail/?state=failed">2 emails</a>' in overview
    listed = root.get("/admin/mail/?state=failed").text
    assert ("ann@" in listed, "ben@" in listed, "new@" in listed) == (True, True, False)


def test_dismissed_emails_need_no_attention_and_can_still_be_sent(
    mail_worker: OutboxWorker, signed_in: SignedIn
) -> None:
    root = signed_in("root")
    first, second, third = _queue_failed(mail_worker, "ann", "ben", "cem")
    sent = mail_worker.queue("signup", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP))
    mail_worker.send_due()

    assert root.post("/admin/mail/dismiss", data={"mail": [first, second, sent, "nothing"]}).status_code == 303

    assert "2 emails dismissed" in root.get("/admin/mail/?state=failed").text
    states = {mail_id: mail_worker.get_mail(mail_id).state for mail_id in (first, second, third, sent)}
    assert states == {
        first: MailState.CANCELLED,
        second: MailState.CANCELLED,
        third: MailState.FAILED,
        sent: MailState.SENT,
    }
    assert "1 email</a>" in root.get("/admin/").text
    assert root.post("/admin/mail/dismiss", data={"mail": [first, second]}).status_code == 409
    with mail_worker.database.reading() as session:
        dismissed = session.scalars(sa.select(Event).where(Event.tag == "mail.dismissed")).all()
        assert {(event.data["mail"], event.facts["email"]) for event in dismissed} == {
            (first, "ann@example.com"),
            (second, "ben@example.com"),
        }
    assert root.post(f"/admin/mail/{first}/resend").status_code == 303
    assert mail_worker.get_mail(first).state is MailState.PENDING


def test_two_operators_dismiss_an_email_once(mail_worker: OutboxWorker, cast: Cast) -> None:
    (mail_id,) = _queue_failed(mail_worker, "ann")

    def dismiss(_: int) -> bool:
        with mail_worker.database.transaction() as session:
            try:
                outbox.dismiss(session, [mail_id], actor=session.get_one(User, cast.people["root"]))
            except ConflictError:
                return False
            return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(dismiss, range(4))) == [False, False, False, True]
    with mail_worker.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).where(Event.tag == "mail.dismissed")) == 1


def test_email_that_is_being_sent_cannot_be_resent(mail_worker: OutboxWorker, signed_in: SignedIn) -> None:
    mail_id = mail_worker.queue("signup", token_id="x")
    with mail_worker.database.transaction() as session:
        assert delivery.claim_attempt(session, mail_id, "example.com", utcnow())

    assert signed_in("root").post(f"/admin/mail/{mail_id}/resend").status_code == 409
    assert signed_in("root").post("/admin/mail/nothing/resend").status_code == 404


def test_portal_enqueues_the_job_after_the_commit(
    mail_worker: OutboxWorker, signed_in: SignedIn, redis_url: str
) -> None:
    mail_id = mail_worker.queue("signup", token_id="x")
    queue = open_queue(connect(redis_url), MAIL_QUEUE)
    assert queue.jobs == []

    signed_in("root").post(f"/admin/mail/{mail_id}/resend")

    assert [(job.func_name, job.args) for job in queue.jobs] == [("daemon.jobs.send_mail", [mail_id])]


def test_resending_works_without_redis(mail_worker: OutboxWorker, signed_in: SignedIn, app: Flask) -> None:
    mail_id = mail_worker.queue("signup", token_id="x")
    client = signed_in("root")
    app.extensions["redis"] = Redis.from_url("unix:///nowhere.sock")

    assert client.post(f"/admin/mail/{mail_id}/resend").status_code == 303


@pytest.mark.slow
def test_scheduler_and_worker_send_queued_emails(
    mail_worker: OutboxWorker, redis_url: str, smtp: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_worker.queue("signup", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("MAIL_SERVER", smtp.host)
    monkeypatch.setenv("MAIL_PORT", str(smtp.port))
    monkeypatch.setenv("WORKER_PROCESSES", "2")

    Scheduler(Context(mail_worker.settings, mail_worker.database, connect(redis_url))).tick(utcnow())
    with running("daemon.cli", "worker", log=tmp_path / "log"):
        smtp.wait_for(1)
        wait_until(lambda: _all_sent(mail_worker), "the outcome is recorded")

    assert "/signup/" not in (tmp_path / "log").read_text()


def _all_sent(mail_worker: OutboxWorker) -> bool:
    with mail_worker.database.reading() as session:
        return set(session.scalars(sa.select(OutgoingMail.state))) == {MailState.SENT}

"""Delivery of emails: retries, refusals, outages, killed workers, certificates and logs."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.smtp import AuthResult

from daemon.mail import sender
from daemon.mail import smtp as smtp_client
from portal.database import Database
from portal.models import Event, EventTag, MailState, OutgoingMail, TokenPurpose, utcnow
from portal.services.mail import delivery
from portal.services.mail.delivery import ATTEMPT_LEASE, MAX_ATTEMPTS
from portal.settings import MailSettings
from tests import factories
from tests.daemon.mail.conftest import World, add_token
from tests.daemon.mail.servers import HangingServer, RefusingServer, self_signed_tls, serving
from tests.daemon.processes import wait_until
from tests.support.cast import SignedIn
from tests.support.mail import Mailbox
from tests.support.outages import locked_database
from tests.support.outbox import OutboxWorker, bodies

LATER = timedelta(minutes=50)
"""Longer than any pause between attempts, shorter than the lifetime of links."""


def worker_environment(mail_worker: OutboxWorker) -> dict[str, str]:
    """Return the environment of a worker process that uses this test's database."""
    return {**os.environ, "BASE_URL": mail_worker.settings.base_url, "MAIL_SENDER": mail_worker.settings.mail.sender}


@pytest.fixture
def mail_id(mail_worker: OutboxWorker, database: Database) -> str:
    """Queue an email and return its id."""
    return mail_worker.queue("signup", token_id=add_token(database, TokenPurpose.SIGNUP))


def test_email_is_sent_once_when_the_job_runs_repeatedly(
    mail_worker: OutboxWorker, mail_id: str, smtp: Mailbox
) -> None:
    for _ in range(3):
        sender.send_mail(mail_worker.database, mail_worker.settings, mail_id, utcnow())

    row = mail_worker.get_mail(mail_id)
    assert len(smtp.messages) == 1
    assert (row.state, row.attempts, row.last_error) == (MailState.SENT, 1, None)
    assert row.sent_at is not None
    assert smtp.messages[0]["Message-ID"] == row.message_id


def test_email_is_sent_once_although_the_database_is_locked_after_the_delivery(
    mail_worker: OutboxWorker, mail_id: str, smtp: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = mail_worker.database
    is_locked = threading.Event()
    monkeypatch.setattr("portal.database.WAIT_SECONDS", 0.1)

    def lock_for_a_second() -> None:
        with locked_database(mail_worker.settings.database_url):
            is_locked.set()
            time.sleep(1)

    def deliver_and_lock(settings: MailSettings, message: smtp_client.OutgoingMessage) -> None:
        smtp_client.deliver(settings, message)
        database.dispose()
        locking.start()
        is_locked.wait()

    locking = threading.Thread(target=lock_for_a_second)
    monkeypatch.setattr(sender, "deliver", deliver_and_lock)
    sender.send_mail(database, mail_worker.settings, mail_id, utcnow())
    locking.join()
    monkeypatch.undo()
    mail_worker.send_due(utcnow() + ATTEMPT_LEASE + timedelta(minutes=1))

    assert mail_worker.get_mail(mail_id).state is MailState.SENT
    assert len(smtp.messages) == 1


def test_only_one_of_many_concurrent_workers_sends_an_email(
    mail_worker: OutboxWorker, mail_id: str, smtp: Mailbox
) -> None:
    gate = threading.Barrier(8)

    def work(_: int) -> None:
        gate.wait()
        sender.send_mail(mail_worker.database, mail_worker.settings, mail_id, utcnow())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert len(smtp.messages) == 1
    assert mail_worker.get_mail(mail_id).attempts == 1


def test_email_is_sent_once_after_the_server_recovers(mail_worker: OutboxWorker, mail_id: str) -> None:
    down = Mailbox()
    mail_worker.use_server(down)
    mail_worker.send_due()
    row = mail_worker.get_mail(mail_id)
    assert row.state is MailState.PENDING
    assert row.last_error is not None
    assert "cannot be reached: Connection refused" in row.last_error
    assert mail_worker.send_due() == 0, "the pause has not passed yet"

    with serving(down):
        mail_worker.send_due(utcnow() + timedelta(minutes=1))
        mail_worker.send_due(utcnow() + LATER)

    assert len(down.messages) == 1
    assert mail_worker.get_mail(mail_id).state is MailState.SENT


def test_pauses_grow_and_the_email_fails_after_three_days(mail_worker: OutboxWorker, mail_id: str) -> None:
    mail_worker.use_server(Mailbox())
    pauses = []
    for _ in range(12):
        with mail_worker.database.transaction() as session:
            session.get_one(OutgoingMail, mail_id).next_attempt_at = utcnow()
        before = utcnow()
        mail_worker.send_due()
        pauses.append(mail_worker.get_mail(mail_id).next_attempt_at - before)
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:9]))
    assert max(pauses) < timedelta(hours=1)

    leave_one_attempt(mail_worker, mail_id)
    mail_worker.send_due(utcnow() + LATER)

    row = mail_worker.get_mail(mail_id)
    assert row.state is MailState.FAILED
    assert f"Gave up after {MAX_ATTEMPTS} attempts" in (row.last_error or "")
    assert [event.data["attempts"] for event in list_failures(mail_worker)] == [MAX_ATTEMPTS]


def leave_one_attempt(mail_worker: OutboxWorker, mail_id: str) -> None:
    """Use up all attempts of an email but one."""
    with mail_worker.database.transaction() as session:
        mail = session.get_one(OutgoingMail, mail_id)
        mail.attempts, mail.created_at = MAX_ATTEMPTS - 1, utcnow() - timedelta(days=4)


@pytest.mark.parametrize("failed_before", [True, False])
def test_resending_restarts_the_three_days_of_attempts(
    mail_worker: OutboxWorker, mail_id: str, signed_in: SignedIn, failed_before: bool
) -> None:
    mail_worker.use_server(Mailbox())
    leave_one_attempt(mail_worker, mail_id)
    if failed_before:
        mail_worker.send_due()
        assert mail_worker.get_mail(mail_id).state is MailState.FAILED

    signed_in("root").post(f"/admin/mail/{mail_id}/resend")
    mail_worker.send_due()

    row = mail_worker.get_mail(mail_id)
    assert (row.state, row.attempts) == (MailState.PENDING, 1)
    assert row.next_attempt_at < utcnow() + timedelta(minutes=1)


def test_attempts_without_a_configured_server_do_not_count(
    mail_worker: OutboxWorker, mail_id: str, smtp: Mailbox
) -> None:
    with_server = mail_worker.settings
    mail_worker.settings = replace(with_server, mail=replace(with_server.mail, server=None))
    leave_one_attempt(mail_worker, mail_id)
    for minutes in (0, 10):
        mail_worker.send_due(utcnow() + timedelta(minutes=minutes))
        row = mail_worker.get_mail(mail_id)
        assert (row.state, row.attempts) == (MailState.PENDING, 1), "the email stays pending, not failed"
        assert "MAIL_SERVER" in (row.last_error or "")

    mail_worker.settings = with_server
    mail_worker.send_due(utcnow() + LATER)
    assert len(smtp.messages) == 1


@pytest.mark.parametrize(
    "server", [RefusingServer(recipient="550 no such user"), RefusingServer(mail="554 no thanks")]
)
def test_permanent_refusal_fails_and_keeps_the_servers_reply(
    mail_worker: OutboxWorker, mail_id: str, server: RefusingServer
) -> None:
    with serving(server):
        mail_worker.use_server(server)
        mail_worker.send_due()
        mail_worker.send_due(utcnow() + LATER)

    row = mail_worker.get_mail(mail_id)
    assert (row.state, row.attempts) == (MailState.FAILED, 1)
    assert (server.mail or server.recipient) in (row.last_error or "")
    assert len(list_failures(mail_worker)) == 1


def list_failures(mail_worker: OutboxWorker) -> list[Event]:
    """Return the events about emails that could not be delivered."""
    with mail_worker.database.reading() as session:
        return list(session.scalars(sa.select(Event).where(Event.tag == EventTag.MAIL_FAILED)))


def test_event_of_a_failure_keeps_the_address_where_it_can_be_erased(
    mail_worker: OutboxWorker, mail_id: str, signed_in: SignedIn
) -> None:
    server = RefusingServer(recipient="550 <new@example.com>: no such user")
    with serving(server):
        mail_worker.use_server(server)
        mail_worker.send_due()

    (event,) = list_failures(mail_worker)
    assert event.data == {"mail": mail_id, "template": "signup", "attempts": 1}
    assert event.facts["email"] == "new@example.com"
    sentence = "An email (signup) to new@example.com could not be delivered"
    assert sentence in signed_in("root").get("/admin/events").text


def test_email_that_is_not_needed_is_no_failure(mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    mail_id = mail_worker.queue("signup", token_id="nothing")

    mail_worker.send_due()

    assert mail_worker.get_mail(mail_id).state is MailState.CANCELLED
    assert list_failures(mail_worker) == []
    assert smtp.messages == []


@pytest.mark.parametrize("answer", [{"recipient": "450 greylisted"}, {"mail": "451 try again"}])
def test_temporary_refusal_is_retried(mail_worker: OutboxWorker, mail_id: str, answer: dict[str, str]) -> None:
    server = RefusingServer(**answer)
    with serving(server):
        mail_worker.use_server(server)
        mail_worker.send_due()
        assert next(iter(answer.values())) in (mail_worker.get_mail(mail_id).last_error or "")
        server.recipient = server.mail = ""
        mail_worker.send_due(utcnow() + LATER)

    assert len(server.messages) == 1
    assert mail_worker.get_mail(mail_id).state is MailState.SENT


def test_tokens_quoted_by_the_server_are_removed_from_the_error(
    mail_worker: OutboxWorker, database: Database, world: World
) -> None:
    server = RefusingServer(mail="554 spam")
    mail_id = mail_worker.queue("invite", invite_token_id=world.invite_token)
    token = "x" * 43
    server.mail = f"554 no links like <https://portal.example.com/invite/{token}> or {token} here"
    with serving(server):
        mail_worker.use_server(server)
        mail_worker.send_due()

    reason = mail_worker.get_mail(mail_id).last_error or ""
    assert "no links like" in reason
    assert "here" in reason
    assert "x" * 10 not in reason


def test_failing_quit_does_not_cause_a_second_delivery(mail_worker: OutboxWorker, mail_id: str) -> None:
    server = Mailbox()
    with serving(server, closes_on_quit=True):
        mail_worker.use_server(server)
        mail_worker.send_due()
        mail_worker.send_due(utcnow() + LATER)

    assert len(server.messages) == 1
    assert mail_worker.get_mail(mail_id).state is MailState.SENT


def test_hanging_server_runs_into_the_time_limit(
    mail_worker: OutboxWorker, mail_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_client, "DELIVER_SECONDS", 0.2)
    server = HangingServer(keeps=False)
    with serving(server):
        mail_worker.use_server(server)
        mail_worker.send_due()
        server.resume.set()

    row = mail_worker.get_mail(mail_id)
    assert row.state is MailState.PENDING
    assert "stopped answering" in (row.last_error or "")


def test_outage_postpones_all_other_emails(mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    ids = [
        mail_worker.queue("signup", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP)) for _ in range(5)
    ]
    mail_worker.use_server(Mailbox())
    mail_worker.send_due()
    assert sum(mail_worker.get_mail(mail_id).attempts for mail_id in ids) == 1

    mail_worker.use_server(smtp)
    mail_worker.send_due(utcnow() + timedelta(minutes=1))

    assert len(smtp.messages) == len(ids)


def test_many_workers_can_detect_an_outage_at_once(mail_worker: OutboxWorker) -> None:
    ids = [
        mail_worker.queue("signup", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP)) for _ in range(24)
    ]
    mail_worker.use_server(Mailbox())

    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda mail_id: sender.send_mail(mail_worker.database, mail_worker.settings, mail_id, utcnow()), ids
            )
        )

    assert {mail_worker.get_mail(mail_id).state for mail_id in ids} == {MailState.PENDING}


def test_error_without_a_configured_server_names_the_setting(mail_worker: OutboxWorker, mail_id: str) -> None:
    mail_worker.settings = replace(mail_worker.settings, mail=replace(mail_worker.settings.mail, server=None))

    mail_worker.send_due()

    row = mail_worker.get_mail(mail_id)
    assert row.state is MailState.PENDING
    assert "MAIL_SERVER" in (row.last_error or "")


def test_internal_error_is_recorded_and_the_email_is_retried(mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    mail_id = mail_worker.queue("no such mail")

    with pytest.raises(KeyError):
        mail_worker.send_due()

    row = mail_worker.get_mail(mail_id)
    assert row.state is MailState.PENDING
    assert "KeyError" in (row.last_error or "")
    assert mail_worker.send_due() == 0


@pytest.mark.parametrize("tls", [{"use_tls": True}, {"use_ssl": True}])
def test_untrusted_certificate_gets_no_email_and_no_password(
    mail_worker: OutboxWorker, mail_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: dict[str, bool]
) -> None:
    server = Mailbox()
    credentials: list[object] = []

    def check(_server: object, _session: object, _envelope: object, _mechanism: object, data: object) -> object:
        credentials.append(data)
        return AuthResult(success=True)

    with self_signed_tls(tmp_path) as (context, certificate):
        options: dict[str, Any] = {"ssl_context" if "use_ssl" in tls else "tls_context": context}
        with serving(server, authenticator=check, auth_require_tls=False, **options):
            mail_worker.use_server(server, username="fleet", password="a password", **tls)
            mail_worker.send_due()
            assert (server.messages, credentials) == ([], [])
            assert "cannot be trusted" in (mail_worker.get_mail(mail_id).last_error or "")

            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            mail_worker.send_due(utcnow() + LATER)

    assert len(server.messages) == 1
    assert len(credentials) == 1


def test_server_without_tls_gets_no_email_if_tls_is_required(
    mail_worker: OutboxWorker, mail_id: str, smtp: Mailbox
) -> None:
    mail_worker.use_server(smtp, use_tls=True)

    mail_worker.send_due()

    assert smtp.messages == []
    assert "MAIL_USE_TLS" in (mail_worker.get_mail(mail_id).last_error or "")


def test_logs_contain_neither_links_nor_passwords(
    mail_worker: OutboxWorker,
    mail_id: str,
    smtp: Mailbox,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    mail_worker.send_due()
    token = bodies(smtp.messages[0])[0].partition("/signup/")[2].split()[0]
    mail_worker.queue(
        "signup", to="second@example.com", token_id=add_token(mail_worker.database, TokenPurpose.SIGNUP)
    )
    mail_worker.use_server(smtp, username="fleet", password="a very secret password")

    mail_worker.send_due()

    ours = [
        record.getMessage() for record in caplog.records if record.name != "mail.log"
    ]  # log of the test's own server
    printed = "".join([*ours, *capfd.readouterr()])
    assert "MAIL_USERNAME" in printed
    assert token not in printed
    assert "very secret" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("accepted", [False, True], ids=["before", "after"])
def test_email_is_sent_again_after_a_worker_was_killed(
    mail_worker: OutboxWorker, mail_id: str, *, accepted: bool
) -> None:
    server = HangingServer(keeps=accepted)
    with serving(server):
        worker = subprocess.Popen(
            [sys.executable, "-c", f"from daemon.jobs import send_mail; send_mail({mail_id!r})"],
            env={**worker_environment(mail_worker), "MAIL_SERVER": server.host, "MAIL_PORT": str(server.port)},
        )
        try:
            wait_until(server.has_mail.is_set, "the server has received the email")
        finally:
            worker.kill()
            worker.wait()
        server.resume.set()
        assert mail_worker.get_mail(mail_id).state is MailState.SENDING
        mail_worker.use_server(server)
        assert mail_worker.send_due() == 0, "the claim has not expired yet"

        mail_worker.send_due(utcnow() + ATTEMPT_LEASE)
        mail_worker.send_due(utcnow() + LATER)

    # Only an accepted email is sent twice, because the worker died before recording it. Both copies have one id.
    assert len(server.messages) == (2 if accepted else 1)
    assert len({message["Message-ID"] for message in server.messages}) == 1
    assert len({bodies(message)[0] for message in server.messages}) == 1
    assert mail_worker.get_mail(mail_id).state is MailState.SENT


def test_worker_with_an_expired_claim_cannot_record_an_outcome(
    mail_worker: OutboxWorker, mail_id: str, smtp: Mailbox
) -> None:
    with mail_worker.database.transaction() as session:
        late = delivery.claim_attempt(session, mail_id, "portal.example.com", utcnow())
    assert late is not None
    mail_worker.send_due(utcnow() + ATTEMPT_LEASE)

    with mail_worker.database.transaction() as session:
        assert not delivery.mark_deferred(session, late, "timed out", utcnow())
        assert not delivery.mark_sent(session, late, utcnow())

    assert mail_worker.get_mail(mail_id).state is MailState.SENT
    assert len(smtp.messages) == 1


def test_worker_with_an_expired_claim_cannot_record_an_outcome_after_a_resend(
    mail_worker: OutboxWorker, mail_id: str, signed_in: SignedIn
) -> None:
    def attempt(after: timedelta) -> OutgoingMail:
        with mail_worker.database.transaction() as session:
            mail = delivery.claim_attempt(session, mail_id, "portal.example.com", utcnow() + after)
        assert mail is not None
        return mail

    late = attempt(timedelta())
    refused = attempt(ATTEMPT_LEASE)
    with mail_worker.database.transaction() as session:
        assert delivery.mark_failed(session, refused, "550 unknown")
    signed_in("root").post(f"/admin/mail/{mail_id}/resend")
    assert attempt(2 * ATTEMPT_LEASE).attempts == late.attempts

    with mail_worker.database.transaction() as session:
        assert not delivery.mark_sent(session, late, utcnow())
        assert not delivery.mark_failed(session, late, "550 unknown")
    assert len(list_failures(mail_worker)) == 1, "the late worker records nothing"
    assert mail_worker.get_mail(mail_id).state is MailState.SENDING


def test_longest_waiting_emails_are_due_first(mail_worker: OutboxWorker, database: Database) -> None:
    ids = [mail_worker.queue("signup", to=f"{n}@example.com", token_id=str(n)) for n in range(3)]
    with database.transaction() as session:
        for age, mail_id in enumerate(ids):
            session.execute(
                sa.update(OutgoingMail)
                .where(OutgoingMail.id == mail_id)
                .values(next_attempt_at=utcnow() - timedelta(minutes=age))
            )

    with database.reading() as session:
        assert delivery.list_due(session, utcnow(), repeated=False) == ids[::-1]


def test_many_repeated_emails_do_not_hide_new_ones(mail_worker: OutboxWorker, database: Database) -> None:
    with database.transaction() as session:
        for _ in range(150):
            factories.mail(session, attempts=1, next_attempt_at=utcnow() - timedelta(hours=1))
    new = mail_worker.queue("signup", token_id="1")

    with database.reading() as session:
        assert delivery.list_due(session, utcnow(), repeated=False) == [new]
        assert new not in delivery.list_due(session, utcnow(), repeated=True)


def test_bodies_have_no_line_that_strict_servers_refuse(mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    text = "å" * 3000
    message = smtp_client.OutgoingMessage("new@example.com", "Long lines", text, f"<p>{text}</p>", "<1@example.com>")
    smtp_client.deliver(mail_worker.settings.mail, message)

    [received] = smtp.messages
    assert max(map(len, received.as_bytes().splitlines())) <= 998
    assert [body.strip() for body in bodies(received)] == [text, f"<p>{text}</p>"]

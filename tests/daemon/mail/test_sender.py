"""Sending: once wherever possible, never lost, refusals in words, whatever servers and workers do."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
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
from portal.models import MailState, OutgoingMail, TokenPurpose, utcnow
from portal.services.mail import delivery
from portal.services.mail.delivery import ATTEMPT_LEASE, MAX_ATTEMPTS
from tests.daemon.mail.conftest import World, add_token
from tests.daemon.mail.servers import Grumpy, Slow, certified, serving
from tests.daemon.processes import wait_until
from tests.support.cast import SignedIn
from tests.support.mail import Mailbox
from tests.support.outbox import Office, bodies

LATER = timedelta(minutes=50)
"""Longer than any pause, and sooner than links expire."""


def worker_environment(office: Office) -> dict[str, str]:
    """What a worker's process needs to work on this test's database."""
    return {**os.environ, "BASE_URL": office.settings.base_url, "MAIL_SENDER": office.settings.mail.sender}


@pytest.fixture
def posted(office: Office, database: Database) -> str:
    """A mail that waits to be sent."""
    return office.post("signup", token_id=add_token(database, TokenPurpose.SIGNUP))


def test_a_mail_is_sent_once_however_often_it_is_asked_for(office: Office, posted: str, smtp: Mailbox) -> None:
    for _ in range(3):
        sender.send_mail(office.database, office.settings, posted, utcnow())

    row = office.row(posted)
    assert len(smtp.messages) == 1
    assert (row.state, row.attempts, row.last_error) == (MailState.SENT, 1, None)
    assert row.sent_at is not None
    assert smtp.messages[0]["Message-ID"] == row.message_id


def test_of_many_workers_at_once_one_sends(office: Office, posted: str, smtp: Mailbox) -> None:
    gate = threading.Barrier(8)

    def work(_: int) -> None:
        gate.wait()
        sender.send_mail(office.database, office.settings, posted, utcnow())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert len(smtp.messages) == 1
    assert office.row(posted).attempts == 1


def test_a_server_that_is_down_gets_exactly_one_mail_when_it_is_back(office: Office, posted: str) -> None:
    down = Mailbox()
    office.serves(down)
    office.send_due()
    row = office.row(posted)
    assert row.state is MailState.PENDING
    assert row.last_error is not None
    assert "cannot be reached: Connection refused" in row.last_error
    assert office.send_due() == 0, "it has to pause first"

    with serving(down):
        office.send_due(utcnow() + timedelta(minutes=1))
        office.send_due(utcnow() + LATER)

    assert len(down.messages) == 1
    assert office.row(posted).state is MailState.SENT


def test_pauses_grow_and_after_three_days_it_is_enough(office: Office, posted: str) -> None:
    office.serves(Mailbox())
    pauses = []
    for _ in range(12):
        with office.database.transaction() as session:
            session.get_one(OutgoingMail, posted).next_attempt_at = utcnow()
        before = utcnow()
        office.send_due()
        pauses.append(office.row(posted).next_attempt_at - before)
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:9]))
    assert max(pauses) < timedelta(hours=1)

    tried_nearly_long_enough(office, posted)
    office.send_due(utcnow() + LATER)

    row = office.row(posted)
    assert row.state is MailState.FAILED
    assert f"Given up after {MAX_ATTEMPTS} attempts" in (row.last_error or "")


def tried_nearly_long_enough(office: Office, mail_id: str) -> None:
    """Let a mail have one attempt left."""
    with office.database.transaction() as session:
        mail = session.get_one(OutgoingMail, mail_id)
        mail.attempts, mail.created_at = MAX_ATTEMPTS - 1, utcnow() - timedelta(days=4)


@pytest.mark.parametrize("given_up", [True, False])
def test_asked_for_again_a_mail_has_another_three_days(
    office: Office, posted: str, signed_in: SignedIn, given_up: bool
) -> None:
    office.serves(Mailbox())
    tried_nearly_long_enough(office, posted)
    if given_up:
        office.send_due()
        assert office.row(posted).state is MailState.FAILED

    signed_in("root").post(f"/admin/mail/{posted}/resend")
    office.send_due()

    row = office.row(posted)
    assert (row.state, row.attempts) == (MailState.PENDING, 1)
    assert row.next_attempt_at < utcnow() + timedelta(minutes=1)


def test_while_no_server_is_set_mails_wait_for_one(office: Office, posted: str, smtp: Mailbox) -> None:
    with_server = office.settings
    office.settings = replace(with_server, mail=replace(with_server.mail, server=None))
    tried_nearly_long_enough(office, posted)
    for minutes in (0, 10):
        office.send_due(utcnow() + timedelta(minutes=minutes))
        row = office.row(posted)
        assert (row.state, row.attempts) == (MailState.PENDING, 1), "and the team's page says that it waits"
        assert "MAIL_SERVER" in (row.last_error or "")

    office.settings = with_server
    office.send_due(utcnow() + LATER)
    assert len(smtp.messages) == 1


@pytest.mark.parametrize("server", [Grumpy(recipient="550 no such user"), Grumpy(mail="554 no thanks")])
def test_a_refusal_for_good_fails_in_the_servers_words(office: Office, posted: str, server: Grumpy) -> None:
    with serving(server):
        office.serves(server)
        office.send_due()
        office.send_due(utcnow() + LATER)

    row = office.row(posted)
    assert (row.state, row.attempts) == (MailState.FAILED, 1)
    assert (server.mail or server.recipient) in (row.last_error or "")


@pytest.mark.parametrize("answer", [{"recipient": "450 greylisted"}, {"mail": "451 try again"}])
def test_a_refusal_for_now_is_tried_again(office: Office, posted: str, answer: dict[str, str]) -> None:
    server = Grumpy(**answer)
    with serving(server):
        office.serves(server)
        office.send_due()
        assert next(iter(answer.values())) in (office.row(posted).last_error or "")
        server.recipient = server.mail = ""
        office.send_due(utcnow() + LATER)

    assert len(server.messages) == 1
    assert office.row(posted).state is MailState.SENT


def test_what_a_server_quotes_of_a_mail_is_not_kept(office: Office, database: Database, world: World) -> None:
    server = Grumpy(mail="554 spam")
    mail_id = office.post("invite", invite_token_id=world.invite_token)
    token = "x" * 43
    server.mail = f"554 no links like <https://portal.example.com/invite/{token}> or {token} here"
    with serving(server):
        office.serves(server)
        office.send_due()

    reason = office.row(mail_id).last_error or ""
    assert "no links like" in reason
    assert "here" in reason
    assert "x" * 10 not in reason


def test_a_server_that_hangs_up_after_taking_the_mail_does_not_get_it_twice(office: Office, posted: str) -> None:
    server = Mailbox()
    with serving(server, curt=True):
        office.serves(server)
        office.send_due()
        office.send_due(utcnow() + LATER)

    assert len(server.messages) == 1
    assert office.row(posted).state is MailState.SENT


def test_a_mute_server_holds_nobody_up(office: Office, posted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_client, "DELIVER_SECONDS", 0.2)
    server = Slow(keeps=False)
    with serving(server):
        office.serves(server)
        office.send_due()
        server.go_on.set()

    row = office.row(posted)
    assert row.state is MailState.PENDING
    assert "stopped answering" in (row.last_error or "")


def test_an_outage_is_found_out_by_one_mail_not_by_each(office: Office, smtp: Mailbox) -> None:
    ids = [office.post("signup", token_id=add_token(office.database, TokenPurpose.SIGNUP)) for _ in range(5)]
    office.serves(Mailbox())
    office.send_due()
    assert sum(office.row(mail_id).attempts for mail_id in ids) == 1

    office.serves(smtp)
    office.send_due(utcnow() + timedelta(minutes=1))

    assert len(smtp.messages) == len(ids)


def test_many_workers_find_out_at_once(office: Office) -> None:
    ids = [office.post("signup", token_id=add_token(office.database, TokenPurpose.SIGNUP)) for _ in range(24)]
    office.serves(Mailbox())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda mail_id: sender.send_mail(office.database, office.settings, mail_id, utcnow()), ids))

    assert {office.row(mail_id).state for mail_id in ids} == {MailState.PENDING}


def test_without_a_server_mail_waits_and_says_what_to_set(office: Office, posted: str) -> None:
    office.settings = replace(office.settings, mail=replace(office.settings.mail, server=None))

    office.send_due()

    row = office.row(posted)
    assert row.state is MailState.PENDING
    assert "MAIL_SERVER" in (row.last_error or "")


def test_an_error_of_ours_is_told_and_does_not_lose_the_mail(office: Office, smtp: Mailbox) -> None:
    mail_id = office.post("no such mail")

    with pytest.raises(KeyError):
        office.send_due()

    row = office.row(mail_id)
    assert row.state is MailState.PENDING
    assert "KeyError" in (row.last_error or "")
    assert office.send_due() == 0


@pytest.mark.parametrize("tls", [{"use_tls": True}, {"use_ssl": True}])
def test_a_certificate_nobody_vouches_for_gets_no_mail_and_no_password(
    office: Office, posted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: dict[str, bool]
) -> None:
    server = Mailbox()
    credentials: list[object] = []

    def check(_server: object, _session: object, _envelope: object, _mechanism: object, data: object) -> object:
        credentials.append(data)
        return AuthResult(success=True)

    with certified(tmp_path) as (context, certificate):
        options: dict[str, Any] = {"ssl_context" if "use_ssl" in tls else "tls_context": context}
        with serving(server, authenticator=check, auth_require_tls=False, **options):
            office.serves(server, username="fleet", password="a password", **tls)
            office.send_due()
            assert (server.messages, credentials) == ([], [])
            assert "not to be trusted" in (office.row(posted).last_error or "")

            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            office.send_due(utcnow() + LATER)

    assert len(server.messages) == 1
    assert len(credentials) == 1


def test_a_server_that_offers_no_tls_gets_no_mail_where_tls_is_asked_for(
    office: Office, posted: str, smtp: Mailbox
) -> None:
    office.serves(smtp, use_tls=True)

    office.send_due()

    assert smtp.messages == []
    assert "MAIL_USE_TLS" in (office.row(posted).last_error or "")


def test_logs_hold_neither_links_nor_passwords(
    office: Office, posted: str, smtp: Mailbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    office.send_due()
    token = bodies(smtp.messages[0])[0].partition("/signup/")[2].split()[0]
    office.post("signup", to="second@example.com", token_id=add_token(office.database, TokenPurpose.SIGNUP))
    office.serves(smtp, username="fleet", password="a password nobody may read")

    office.send_due()

    ours = [record.getMessage() for record in caplog.records if record.name != "mail.log"]  # the test's own server
    printed = "".join([*ours, *capfd.readouterr()])
    assert "MAIL_USERNAME" in printed
    assert token not in printed
    assert "nobody may read" not in printed


@pytest.mark.parametrize("accepted", [False, True], ids=["before", "after"])
def test_a_worker_killed_while_sending_loses_no_mail(office: Office, posted: str, *, accepted: bool) -> None:
    server = Slow(keeps=accepted)
    with serving(server):
        worker = subprocess.Popen(
            [sys.executable, "-c", f"from daemon.jobs import send_mail; send_mail({posted!r})"],
            env={**worker_environment(office), "MAIL_SERVER": server.host, "MAIL_PORT": str(server.port)},
        )
        try:
            wait_until(server.has_mail.is_set, "the server has the mail")
        finally:
            worker.kill()
            worker.wait()
        server.go_on.set()
        assert office.row(posted).state is MailState.SENDING
        office.serves(server)
        assert office.send_due() == 0, "the attempt may still be going on"

        office.send_due(utcnow() + ATTEMPT_LEASE)
        office.send_due(utcnow() + LATER)

    # A second copy only where the server had the mail and we could not know; it is the same mail by its id.
    assert len(server.messages) == (2 if accepted else 1)
    assert len({message["Message-ID"] for message in server.messages}) == 1
    assert len({bodies(message)[0] for message in server.messages}) == 1
    assert office.row(posted).state is MailState.SENT


def test_a_worker_that_comes_back_late_changes_nothing(office: Office, posted: str, smtp: Mailbox) -> None:
    with office.database.transaction() as session:
        late = delivery.claim_attempt(session, posted, "portal.example.com", utcnow())
    assert late is not None
    office.send_due(utcnow() + ATTEMPT_LEASE)

    with office.database.transaction() as session:
        assert not delivery.mark_deferred(session, late, "timed out", utcnow())
        assert not delivery.mark_sent(session, late, utcnow())

    assert office.row(posted).state is MailState.SENT
    assert len(smtp.messages) == 1


def test_a_worker_that_comes_back_after_the_mail_was_asked_for_again_changes_nothing(
    office: Office, posted: str, signed_in: SignedIn
) -> None:
    def attempt(after: timedelta) -> OutgoingMail:
        with office.database.transaction() as session:
            mail = delivery.claim_attempt(session, posted, "portal.example.com", utcnow() + after)
        assert mail is not None
        return mail

    late = attempt(timedelta())
    refused = attempt(ATTEMPT_LEASE)
    with office.database.transaction() as session:
        assert delivery.mark_refused(session, refused, "550 unknown")
    signed_in("root").post(f"/admin/mail/{posted}/resend")
    assert attempt(2 * ATTEMPT_LEASE).attempts == late.attempts

    with office.database.transaction() as session:
        assert not delivery.mark_sent(session, late, utcnow())
    assert office.row(posted).state is MailState.SENDING


def test_those_that_wait_longest_go_first(office: Office, database: Database) -> None:
    ids = [office.post("signup", to=f"{n}@example.com", token_id=str(n)) for n in range(3)]
    with database.transaction() as session:
        for age, mail_id in enumerate(ids):
            session.execute(
                sa.update(OutgoingMail)
                .where(OutgoingMail.id == mail_id)
                .values(next_attempt_at=utcnow() - timedelta(minutes=age))
            )

    with database.reading() as session:
        assert delivery.list_due(session, utcnow()) == ids[::-1]

"""Tests that neither an answer nor the work behind it shows whether an email has an account."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import event

from portal import password_hashing
from portal.database import Database
from portal.models import OneTimeToken, OutgoingMail
from portal.web.extensions import db
from tests.portal.views.people import OTHER_PASSWORD, give_password, new_client
from tests.support.cast import Cast

VARYING = r'(csrf_token" value="|X-CSRFToken": "|data-now=")[^"]+'
KNOWN, UNKNOWN = "alice@example.com", "alina@example.com"


@dataclass
class Work:
    """The SQL statements and password hash computations of a request."""

    statements: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)


class RecordingHasher(PasswordHasher):
    """A password hasher that records its computations."""

    work: Work

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        """Hash a password and record it."""
        self.work.hashes.append("hash")
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002 - the library's name
        """Verify a password and record it."""
        self.work.hashes.append("verify")
        return super().verify(hash, password)


@pytest.fixture
def work(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Record the work of the portal from now on."""
    recorded = Work()
    # As cheap as in other tests, because the process keeps hashes that it computes with this hasher.
    cheap = password_hashing._hasher
    hasher = RecordingHasher(time_cost=cheap.time_cost, memory_cost=cheap.memory_cost, parallelism=cheap.parallelism)
    hasher.work = recorded
    monkeypatch.setattr(password_hashing, "_hasher", hasher)

    def record(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        recorded.statements.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", record)
    yield recorded
    event.remove(engine, "before_cursor_execute", record)


def collect_answer(app: Flask, work: Work, path: str, email: str, **data: str) -> tuple[Any, ...]:
    """Submit a form in a new browser. Return every part of the answer and of the work that could differ."""
    work.statements.clear()
    work.hashes.clear()
    client = new_client(app)
    answer = client.post(path, data={"email": email, **data})
    headers = sorted((name, text) for name, text in answer.headers.items() if name != "Set-Cookie")
    cookies = sorted(text.partition("=")[0] for text in answer.headers.getlist("Set-Cookie"))
    next_page = client.get(answer.location).text if answer.location else ""
    # The email, the CSRF tokens and the time differ between any two answers.
    texts = tuple(re.sub(VARYING, r"\1", text.replace(email, "ADDRESS")) for text in (answer.text, next_page))
    return answer.status_code, headers, cookies, texts, tuple(work.statements), tuple(work.hashes)


@pytest.fixture(autouse=True)
def _set_password(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice")


@pytest.mark.parametrize("path", ["/signup", "/forgot"])
def test_requesting_a_mail_is_the_same_for_known_and_unknown_emails(
    app: Flask, work: Work, database: Database, path: str
) -> None:
    assert collect_answer(app, work, path, KNOWN) == collect_answer(app, work, path, UNKNOWN)
    assert work.statements != []
    with database.reading() as session:
        tokens = session.query(OneTimeToken).all()
        mails = session.query(OutgoingMail).all()
    assert {(row.user_id, row.token_hash, row.purpose) for row in tokens} == {(None, None, purpose_of(path))}
    assert len(tokens) == len(mails) == 2
    assert {mail.template for mail in mails} == {purpose_of(path)}


def purpose_of(path: str) -> str:
    """Return the purpose of the link that the form requests."""
    return {"/signup": "signup", "/forgot": "reset"}[path]


def test_failed_sign_in_is_the_same_for_known_and_unknown_emails(
    app: Flask, work: Work, database: Database, cast: Cast
) -> None:
    # The first unknown email of a process computes the dummy hash, so send one before measuring.
    collect_answer(app, work, "/login", "first@example.com", password=OTHER_PASSWORD)
    known = collect_answer(app, work, "/login", KNOWN, password=OTHER_PASSWORD)
    unknown = collect_answer(app, work, "/login", UNKNOWN, password=OTHER_PASSWORD)
    assert known == unknown
    assert work.hashes == ["verify"]
    # Bob has an account without a password.
    assert collect_answer(app, work, "/login", "bob@example.com", password=OTHER_PASSWORD)[0] == 422
    assert work.hashes == ["verify"]
    with database.reading() as session:
        tags = session.execute(sa.text("SELECT DISTINCT tag FROM events")).scalars().all()
    assert tags == ["user.sign_in_failed"]

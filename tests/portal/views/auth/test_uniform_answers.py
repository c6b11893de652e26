"""Whether an address has an account shows neither in an answer nor in what it took to answer."""

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
from tests.portal.views.people import OTHER_PASSWORD, browser, give_password
from tests.support.cast import Cast

TOKEN = r'(csrf_token" value="|X-CSRFToken": ")[^"]+'
KNOWN, UNKNOWN = "alice@example.com", "alina@example.com"


@dataclass
class Work:
    """What the portal did: its statements, and its slow computations."""

    statements: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)


class CountingHasher(PasswordHasher):
    """Counts what takes long."""

    work: Work

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        """Compute, and note it."""
        self.work.hashes.append("hash")
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002 - the library's name
        """Compute, and note it."""
        self.work.hashes.append("verify")
        return super().verify(hash, password)


@pytest.fixture
def work(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """What the portal does from now on."""
    noted = Work()
    hasher = CountingHasher()
    hasher.work = noted
    monkeypatch.setattr(password_hashing, "_hasher", hasher)

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        noted.statements.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    yield noted
    event.remove(engine, "before_cursor_execute", note)


def answer_to(app: Flask, work: Work, path: str, email: str, **data: str) -> tuple[Any, ...]:
    """Send a form from a fresh browser; all of the answer and of the work that could tell something."""
    work.statements.clear()
    work.hashes.clear()
    client = browser(app)
    answer = client.post(path, data={"email": email, **data})
    headers = sorted((name, text) for name, text in answer.headers.items() if name != "Set-Cookie")
    cookies = sorted(text.partition("=")[0] for text in answer.headers.getlist("Set-Cookie"))
    next_page = client.get(answer.location).text if answer.location else ""
    # What an answer repeats of the question, and the token of its forms, is another one each time.
    texts = tuple(re.sub(TOKEN, r"\1", text.replace(email, "ADDRESS")) for text in (answer.text, next_page))
    return answer.status_code, headers, cookies, texts, tuple(work.statements), tuple(work.hashes)


@pytest.fixture(autouse=True)
def _alice(database: Database, cast: Cast) -> None:
    give_password(database, cast, "alice")


@pytest.mark.parametrize("path", ["/signup", "/forgot"])
def test_asking_for_a_mail(app: Flask, work: Work, database: Database, path: str) -> None:
    assert answer_to(app, work, path, KNOWN) == answer_to(app, work, path, UNKNOWN)
    assert work.statements != []
    with database.reading() as session:
        tokens = session.query(OneTimeToken).all()
        mails = session.query(OutgoingMail).all()
    assert {(row.user_id, row.token_hash, row.purpose) for row in tokens} == {(None, None, path_purpose(path))}
    assert len(tokens) == len(mails) == 2
    assert {mail.template for mail in mails} == {path_purpose(path)}


def path_purpose(path: str) -> str:
    """What the link is for."""
    return {"/signup": "signup", "/forgot": "reset"}[path]


def test_signing_in_with_a_wrong_password(app: Flask, work: Work, database: Database, cast: Cast) -> None:
    # The hash that stands in for missing ones is computed once a process, whoever comes first.
    answer_to(app, work, "/login", "first@example.com", password=OTHER_PASSWORD)
    known = answer_to(app, work, "/login", KNOWN, password=OTHER_PASSWORD)
    unknown = answer_to(app, work, "/login", UNKNOWN, password=OTHER_PASSWORD)
    assert known == unknown
    assert work.hashes == ["verify"]
    # Bob has an account without a password.
    assert answer_to(app, work, "/login", "bob@example.com", password=OTHER_PASSWORD)[0] == 422
    assert work.hashes == ["verify"]
    with database.reading() as session:
        tags = session.execute(sa.text("SELECT DISTINCT tag FROM events")).scalars().all()
    assert tags == ["user.sign_in_failed"]

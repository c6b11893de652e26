"""One request is one transaction, committed in one place, and jobs are enqueued only after it.

A request that may change something takes SQLite's write lock with its first query, so whatever is slow
(password hashing) happens before that, with what `apart()` looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, Response, current_app, g, request
from redis import Redis
from sqlalchemy.orm import Session

from portal.database import set_write_intent, writing
from portal.queue import DEFAULT_QUEUE, JobName, enqueue
from portal.services.mail import outbox
from portal.web.extensions import db

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def init_app(app: Flask) -> None:
    """Begin, commit and end the transaction of every request."""
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(lambda _error: set_write_intent(False))


def session() -> Session:
    """The request's database session, for handing to services."""
    return db.session()


@contextmanager
def separate_transaction() -> Iterator[Session]:
    """A short look at the database before the request's own transaction, which leaves no lock behind."""
    set_write_intent(False)
    try:
        yield session()
    finally:
        session().close()
        set_write_intent(request.method not in SAFE_METHODS)


@contextmanager
def separate_write_transaction() -> Iterator[Session]:
    """A short transaction of its own, before the request's own one."""
    with writing(), Session(db.engine) as short, short.begin():
        yield short


def enqueue_after_commit(job: str, *arguments: str, queue: str = DEFAULT_QUEUE) -> None:
    """Enqueue `job`, a dotted name, once the request's transaction is committed."""
    g.setdefault("jobs", []).append((job, arguments, queue))


def commit_despite_error() -> None:
    """Commit although the answer is a refusal: for what must be remembered of refused requests."""
    g.keep = True


def _begin() -> None:
    set_write_intent(request.method not in SAFE_METHODS)


def _finish(response: Response) -> Response:
    if request.method in SAFE_METHODS:
        return response
    if response.status_code >= 400 and not g.pop("keep", False):
        session().rollback()
        return response
    session().commit()
    redis: Redis = current_app.extensions["redis"]
    for job, arguments, queue in g.pop("jobs", []):
        enqueue(redis, job, *arguments, queue=queue)
    for mail_id in outbox.take_queued(session()):
        enqueue(redis, JobName.SEND_MAIL, mail_id)
    return response

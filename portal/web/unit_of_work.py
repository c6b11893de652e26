"""The transaction of a request: begun and committed here, followed by enqueueing its jobs. Used by views.

A request that may write takes SQLite's write lock with its first query. Slow work such as password hashing therefore
comes first and reads the database in a `separate_transaction()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, Response, current_app, g, request
from redis import Redis
from sqlalchemy.orm import Session

from portal.change_messages import publish_changes
from portal.database import set_write_intent, writing
from portal.queue import DEFAULT_QUEUE, MAIL_QUEUE, SYNCS_QUEUE, JobName, enqueue
from portal.services.mail import outbox
from portal.services.orgs import member_sync
from portal.web.extensions import db

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def init_app(app: Flask) -> None:
    """Install the transaction of every request."""
    app.before_request(_set_write_intent)
    app.after_request(_finish)
    app.teardown_request(lambda _error: set_write_intent(False))


def session() -> Session:
    """Return the database session of the current request."""
    return db.session()


@contextmanager
def separate_transaction() -> Iterator[Session]:
    """Read the database before the request's own transaction, without keeping a lock."""
    set_write_intent(False)
    try:
        yield session()
    finally:
        session().close()
        set_write_intent(request.method not in SAFE_METHODS)


@contextmanager
def separate_write_transaction() -> Iterator[Session]:
    """Open a short write transaction that is independent of the request's own transaction."""
    with writing(), Session(db.engine) as separate, separate.begin():
        yield separate


def enqueue_after_commit(job: JobName, argument: str, *, queue: str = DEFAULT_QUEUE) -> None:
    """Enqueue a job after the request's transaction is committed."""
    g.setdefault("jobs", []).append((job, argument, queue))


def commit_despite_error() -> None:
    """Commit even if the response is an error, to keep what must be recorded about refused requests."""
    g.commit_despite_error = True


def _set_write_intent() -> None:
    set_write_intent(request.method not in SAFE_METHODS)


def _finish(response: Response) -> Response:
    if request.method in SAFE_METHODS:
        return response
    if response.status_code >= 400 and not g.pop("commit_despite_error", False):
        session().rollback()
        return response
    session().commit()
    redis: Redis = current_app.extensions["redis"]
    publish_changes(redis, session())
    for job, argument, queue in g.pop("jobs", []):
        enqueue(redis, job, argument, queue=queue)
    for mail_id in outbox.take_queued(session()):
        enqueue(redis, JobName.SEND_MAIL, mail_id, queue=MAIL_QUEUE)
    for node_id in member_sync.take_requested_jobs(session()):
        enqueue(redis, JobName.SYNC_NODE, node_id, queue=SYNCS_QUEUE)
    return response

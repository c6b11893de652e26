"""Record of refused requests in the event log. Used by the authorization of views.

A refusal is noted during the request and written after the request's transaction, in a separate one: a refused
request is rolled back, and SQLite allows one writer at a time.
"""

from __future__ import annotations

from flask import Flask, Response, g, request

from portal.models import User, utcnow
from portal.services.audit import log
from portal.web.unit_of_work import separate_write_transaction


def init_app(app: Flask) -> None:
    """Write noted refusals after every request.

    Call this before `unit_of_work.init_app`: Flask calls the functions that run after a request in reverse order,
    and this one must run after the transaction.
    """
    app.after_request(_write_refusal)


def note_refusal(required: str, *, actor: User, org_id: str | None) -> None:
    """Note that the current request was refused.

    Args:
        required: what the actor would need: an `Action`, or `operate`.
        actor: the user who sent the request.
        org_id: the organization the request concerns; None for pages of operators.
    """
    g.refusal = log.Refusal(actor.id, org_id, required, request.endpoint or "")


def _write_refusal(response: Response) -> Response:
    refusal = g.pop("refusal", None)
    if refusal is not None:
        with separate_write_transaction() as writing:
            log.record_refusal(writing, refusal, utcnow())
    return response

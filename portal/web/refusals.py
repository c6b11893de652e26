"""Refused attempts, as the log of events keeps them.

A refusal is noted while the request is at work and written after its transaction ended, in a short one of its own:
the request's changes are rolled back, and on SQLite there is one writer at a time.
"""

from __future__ import annotations

from flask import Flask, Response, g, request

from portal.models import utcnow
from portal.services.audit import log
from portal.web.unit_of_work import separate_write_transaction


def init_app(app: Flask) -> None:
    """Write noted refusals; to be registered before the unit of work, so that it comes after its end."""
    app.after_request(_write)


def record_refusal(actor_id: str, org_id: str | None, wanted: str) -> None:
    """Remember that somebody was refused.

    Args:
        actor_id: who.
        org_id: the organization it concerned; None for the operators' part.
        wanted: what it would have taken: an `Action`, or `operate`.
    """
    g.refusal = log.Refusal(actor_id, org_id, wanted, request.endpoint or "")


def _write(response: Response) -> Response:
    refusal = g.pop("refusal", None)
    if refusal is not None:
        with separate_write_transaction() as short:
            log.record_refusal(short, refusal, utcnow())
    return response

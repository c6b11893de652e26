"""Where a request comes from: its id and the browser's address, which events and lines of the log carry."""

from __future__ import annotations

from flask import Flask, request

from portal.models import new_id
from portal.services.events import current_address, current_request_id


def init_app(app: Flask) -> None:
    """Tell the log about every request, for as long as it is at work."""
    app.before_request(_begin)
    app.teardown_request(_end)


def _begin() -> None:
    current_request_id.set(new_id())
    # The outermost address that we may believe; longer than an address can be is none.
    current_address.set((request.remote_addr or "")[:45] or None)


def _end(_error: BaseException | None) -> None:
    # Threads serve one request after another; what is recorded between two belongs to none.
    current_request_id.set(None)
    current_address.set(None)

"""The id and the client address of the current request, for events and log lines. Used by `create_app`."""

from __future__ import annotations

from flask import Flask, request

from portal.models import new_id
from portal.services.events import current_address, current_request_id


def init_app(app: Flask) -> None:
    """Set the context variables of `portal.services.events` for the duration of each request."""
    app.before_request(_set_context)
    app.teardown_request(_clear_context)


def _set_context() -> None:
    current_request_id.set(new_id())
    # The database column holds 45 characters.
    current_address.set((request.remote_addr or "")[:45] or None)


def _clear_context(_error: BaseException | None) -> None:
    # The thread serves other requests later, and events in between must not carry these values.
    current_request_id.set(None)
    current_address.set(None)

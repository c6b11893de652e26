"""Ids of what a transaction changes, noted for the gateway. Used by services, and by the owners of transactions.

The owner of a transaction publishes the ids after the commit, so that the gateway decides again at once. A lost
message only causes a delay of seconds, because the gateway reads the database again anyway.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

_CHANGED = "changed ids"


def note_change(session: Session, *ids: str | None) -> None:
    """Note that decisions about these users, organizations or bots may have changed. None is ignored."""
    session.info.setdefault(_CHANGED, set()).update(found for found in ids if found)


def take_changes(session: Session) -> set[str]:
    """Return and forget the ids noted through `session`. Call it after the commit."""
    changed: set[str] = session.info.pop(_CHANGED, set())
    return changed

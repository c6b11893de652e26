"""Trouble of an engine in the journal of an update: what it has not done, and since when. Used by `daemon.update`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from portal.models import BotUpdate
from portal.rules.outside_text import clean_line
from portal.services.rollouts import updates

_MAX_ERROR = 500
"""Characters of an error of the engine in the journal."""


def record(session: Session, update: BotUpdate, action: str, error: str, now: datetime) -> None:
    """Record that the engine did not do its work, and that the step is attempted again.

    Args:
        session: a fenced transaction.
        update: the update.
        action: name of what is attempted.
        error: what the engine answered.
        now: the moment.
    """
    known = update.journal.get("trouble", {})
    updates.add_to_journal(
        session,
        update,
        trouble={
            "since": {action: now.isoformat()} | _read_moments(known),
            "attempts": known.get("attempts", 0) + 1,
            "step": update.step,
            "action": action,
            "error": clean_line(error, _MAX_ERROR),
        },
    )


def end(session: Session, update: BotUpdate, action: str, now: datetime) -> None:
    """Record that the engine has done what it did not do. The last error stays in the journal.

    An action that failed before could not be attempted in the meantime. That time does not count as its trouble.

    Args:
        session: a fenced transaction.
        update: the update.
        action: name of what was attempted.
        now: the moment.
    """
    trouble = update.journal["trouble"]
    moments = {name: datetime.fromisoformat(moment) for name, moment in _read_moments(trouble).items()}
    began = moments.pop(action)
    since = {
        name: (moment + (now - began) if moment < began else moment).isoformat() for name, moment in moments.items()
    }
    updates.add_to_journal(session, update, trouble=trouble | {"since": since})


def find_beginning(update: BotUpdate, action: str) -> datetime | None:
    """Return since when the engine has not done this; None when it did it at the last attempt."""
    since = _read_moments(update.journal.get("trouble", {})).get(action)
    return datetime.fromisoformat(since) if since else None


def _read_moments(trouble: dict[str, Any]) -> dict[str, str]:
    """Return since when the engine has not done each action. Earlier versions recorded one moment for all."""
    since = trouble.get("since")
    return since if isinstance(since, dict) else {}

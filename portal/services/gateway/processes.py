"""Running gateway processes, and the updates for which they hold requests. Used by the gateway and by updates.

Before a bot is stopped for an update, every gateway process has to know it, and the requests that it forwarded before
should have ended. Each process records how many of them still run. Updates wait for processes that are alive only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now, moment_by_database
from portal.models import BotUpdate, GatewayProcess
from portal.services.gateway.visits import OUT_OF_SERVICE

ALIVE = timedelta(seconds=10)
"""A process that has recorded nothing for this long is considered dead."""


def record_held(session: Session, process_id: str, held: Mapping[str, int]) -> None:
    """Record that a process is alive, and for which updates it holds requests.

    Args:
        session: a writing transaction.
        process_id: the process. Its row is created if there is none.
        held: number of requests that still run, by the id of the update.
    """
    row = session.get(GatewayProcess, process_id) or GatewayProcess(id=process_id)
    row.seen_at, row.held = database_now(session), dict(held)
    session.add(row)
    session.flush()


def remove(session: Session, process_id: str) -> None:
    """Remove a process that ends."""
    session.execute(sa.delete(GatewayProcess).where(GatewayProcess.id == process_id))


def list_updates_out_of_service(session: Session) -> dict[str, str]:
    """Return the bots that are out of service because of an update: ids of bots by ids of updates."""
    query = sa.select(BotUpdate.id, BotUpdate.bot_id).where(
        BotUpdate.is_running(), BotUpdate.step.in_(OUT_OF_SERVICE)
    )
    return dict(session.execute(query).all())


def has_drained(session: Session, update_id: str) -> bool:
    """Return whether no living process forwards requests to the bot of this update any more."""
    held = session.scalars(sa.select(GatewayProcess.held).where(_is_alive()))
    return all(counts.get(update_id) == 0 for counts in held)


def count_alive(session: Session) -> int:
    """Return the number of living processes."""
    return session.scalar(sa.select(sa.func.count()).where(_is_alive())) or 0


def _is_alive() -> sa.ColumnElement[bool]:
    return GatewayProcess.seen_at > moment_by_database(-ALIVE.total_seconds())

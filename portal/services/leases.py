"""Named leases: acquire, renew, release, by the clock of the database. Used by scheduler, polls, node probe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Lease, update_where

SCHEDULER = "scheduler"
"""The lease of the leading scheduler, which renews it every second."""


@dataclass(frozen=True)
class HeldLease:
    """A lease that this process holds. Its fence is greater than the fence of every earlier holder."""

    name: str
    owner: str
    fence: int


def acquire(session: Session, name: str, owner: str, lasting: timedelta) -> HeldLease | None:
    """Acquire a lease that is free or expired.

    Args:
        session: a transaction.
        name: name of the lease.
        owner: name of this process, different for every process.
        lasting: duration of the lease unless it is renewed.

    Returns:
        The lease, or None while another process holds it.
    """
    _ensure_row(session, name)
    now = database_now(session)
    fence = session.scalar(
        sa.update(Lease)
        .where(Lease.name == name, sa.or_(Lease.until.is_(None), Lease.until <= now))
        .values(owner=owner, until=now + lasting, fence=Lease.fence + 1)
        .returning(Lease.fence)
        .execution_options(synchronize_session=False)
    )
    return None if fence is None else HeldLease(name, owner, fence)


def renew(session: Session, held: HeldLease, lasting: timedelta) -> bool:
    """Renew a lease for `lasting` from now. Return False when the lease has expired or has another owner."""
    now = database_now(session)
    return _change(session, held, Lease.until > now, until=now + lasting)


def release(session: Session, held: HeldLease) -> bool:
    """Release a lease before it expires. Return False when this process no longer held it."""
    return _change(session, held, sa.true(), owner=None, until=None)


def is_held(session: Session, name: str) -> bool:
    """Return whether any process holds the lease now."""
    until = session.scalar(sa.select(Lease.until).where(Lease.name == name))
    return until is not None and until > database_now(session)


def list_held(session: Session, names: Collection[str]) -> set[str]:
    """Return those of the leases that any process holds now."""
    held = sa.select(Lease.name).where(Lease.name.in_(names), Lease.until > database_now(session))
    return set(session.scalars(held))


def _change(session: Session, held: HeldLease, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    is_held_by_owner = (Lease.name == held.name, Lease.owner == held.owner, Lease.fence == held.fence)
    return update_where(session, Lease, *is_held_by_owner, condition, **values) == 1


def _ensure_row(session: Session, name: str) -> None:
    if session.scalar(sa.select(Lease.fence).where(Lease.name == name)) is not None:
        return
    try:
        with session.begin_nested():
            session.add(Lease(name=name))
    except IntegrityError:
        pass  # another process has created the row

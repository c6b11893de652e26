"""Named leases: which of several processes may do a thing, decided by the database and its clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import Lease, update_where


@dataclass(frozen=True)
class HeldLease:
    """A lease in our hands. The fence is greater than that of every former holder."""

    name: str
    owner: str
    fence: int


def acquire(session: Session, name: str, owner: str, lasting: timedelta) -> HeldLease | None:
    """Take a lease that nobody holds, or whose time has run out.

    Args:
        session: a transaction.
        name: what the lease is for.
        owner: who wants it; different for every process.
        lasting: how long it holds unless it is renewed.

    Returns:
        The lease, or None while somebody else holds it.
    """
    _ensure_row(session, name)
    moment = database_now(session)
    fence = session.scalar(
        sa.update(Lease)
        .where(Lease.name == name, sa.or_(Lease.until.is_(None), Lease.until <= moment))
        .values(owner=owner, until=moment + lasting, fence=Lease.fence + 1)
        .returning(Lease.fence)
        .execution_options(synchronize_session=False)
    )
    return None if fence is None else HeldLease(name, owner, fence)


def renew(session: Session, held: HeldLease, lasting: timedelta) -> bool:
    """Hold on to a lease for another while. False when it ran out or was taken over: then it is ours no more."""
    moment = database_now(session)
    return _change(session, held, Lease.until > moment, until=moment + lasting)


def release(session: Session, held: HeldLease) -> bool:
    """Give a lease back before its time, so that another need not wait. False when it was not ours any more."""
    return _change(session, held, sa.true(), owner=None, until=None)


def is_held(session: Session, name: str) -> bool:
    """Whether anybody holds that lease just now."""
    until = session.scalar(sa.select(Lease.until).where(Lease.name == name))
    return until is not None and until > database_now(session)


def _change(session: Session, held: HeldLease, condition: sa.ColumnElement[bool], **values: Any) -> bool:
    is_mine = (Lease.name == held.name, Lease.owner == held.owner, Lease.fence == held.fence)
    return update_where(session, Lease, *is_mine, condition, **values) == 1


def _ensure_row(session: Session, name: str) -> None:
    if session.scalar(sa.select(Lease.fence).where(Lease.name == name)) is not None:
        return
    try:
        with session.begin_nested():
            session.add(Lease(name=name))
    except IntegrityError:
        pass  # another process was faster, which is just as well

"""Ending of access that a restored backup of the database has revived. Used by `flotilla restored`.

A backup contains sessions, links, invites and rights as they were at its moment, including those that were revoked
afterwards. What was revoked is not in the backup, so everything that gives access without a password ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, Event, EventTag, User
from portal.services import events
from portal.services.accounts import one_time_tokens, sessions
from portal.services.orgs import invite_closing, transfers


@dataclass(frozen=True)
class EndedAccess:
    """What ended, and what an operator has to check.

    Attributes:
        sessions: number of ended sessions.
        links: number of invalidated mailed links.
        invites: number of revoked invites.
        offers: number of withdrawn offers of ownership.
        backup_from: the moment of the newest event in the backup; None where there is none.
        operators: the emails of all operators, who may include former ones.
    """

    sessions: int
    links: int
    invites: int
    offers: int
    backup_from: datetime | None
    operators: list[str]


def end_all_access(session: Session, now: datetime) -> EndedAccess:
    """End all sessions, one-time links, pending invites and offers of ownership, and record an event.

    All members are sent to the bots again.

    Args:
        session: the transaction.
        now: the current moment.
    """
    backup_from = session.scalar(sa.select(Event.at).order_by(Event.id.desc()).limit(1))
    is_operator = User.is_platform_admin & User.disabled_at.is_(None)
    ended = EndedAccess(
        sessions=sessions.end_all_of_all_users(session, now),
        links=one_time_tokens.invalidate_all(session, now),
        invites=invite_closing.close_invites(session, sa.true(), "backup restored", actor=None, now=now),
        offers=transfers.end_all_offers(session),
        backup_from=backup_from,
        operators=list(session.scalars(sa.select(User.email).where(is_operator).order_by(User.email))),
    )
    # The bots have newer members than the backup. All roles are sent again, in the state of the backup.
    session.execute(sa.update(Bot).values(epoch=Bot.epoch + 1).execution_options(synchronize_session=False))
    facts = {"sessions": ended.sessions, "links": ended.links, "invites": ended.invites, "offers": ended.offers}
    events.record(session, EventTag.BACKUP_RESTORED, data=facts)
    return ended

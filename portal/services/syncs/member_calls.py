"""Calls about members: built from the row at the moment of sending, and recorded only if the row is still the same.

Level-triggered: a row says which role is desired, never which calls were made. A late "add" therefore cannot overtake
a "remove". Used by `daemon.provision.bot_sync`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotSync, MemberSync, SyncRole, SyncState, User, update_where
from portal.services.syncs import claims, failures
from portal.services.syncs.claims import Claim
from portal.services.syncs.endpoints import Endpoint, read_endpoint
from portal.services.syncs.failures import Failure, FailureKind
from portal.services.syncs.selection import can_be_called, is_member_due, is_provisioned

ADD = "/internal/members/add"
CHANGE_ROLE = "/internal/members/change-role"
REMOVE = "/internal/members/remove"

_MAX_VERSION_STEP = 1024


@dataclass(frozen=True)
class MemberCall:
    """One call about one member.

    Attributes:
        row_id: the row of `MemberSync`.
        user_id: the user.
        endpoint: where to send the call, and the epoch before it is sent.
        version: the desired version that the call carries.
        role: the desired role that the call carries.
        path: path of the call.
        body: content of the call.
        idempotency_key: the same for every repetition.
    """

    row_id: str
    user_id: str
    endpoint: Endpoint
    version: int
    role: SyncRole
    path: str
    body: Mapping[str, Any]
    idempotency_key: str


def next_call(session: Session, claim: Claim, now: datetime) -> MemberCall | None:
    """Build the next call, removals first, or return None if none is due or the bot cannot be called now.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    claims.renew(session, claim)
    query = (
        sa.select(Bot, BotSync, MemberSync, User)
        .join(BotSync, BotSync.bot_id == Bot.id)
        .join(MemberSync, MemberSync.bot_id == Bot.id)
        .join(User, User.id == MemberSync.user_id)
        .where(Bot.id == claim.bot_id, can_be_called(), is_provisioned(), is_member_due(now))
        .order_by(
            sa.case((MemberSync.desired_role == SyncRole.NONE, 0), else_=1), MemberSync.changed_at, MemberSync.id
        )
        .limit(1)
    )
    found = session.execute(query.options(*Endpoint.LOADED)).one_or_none()
    return None if found is None else _build_call(*found)


def record_success(session: Session, claim: Claim, call: MemberCall) -> None:
    """Record that the bot has the role that the call carried, in the epoch before the call.

    A row that has changed since the call was built stays due.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    # Several workers write and compare this moment, so it is of the database's clock.
    moment = claims.renew(session, claim)
    _update_unchanged(
        session,
        call,
        observed_version=call.version,
        observed_role=call.role,
        observed_epoch=call.endpoint.epoch,
        observed_at=moment,
        state=SyncState.SYNCED,
        attempts=0,
        next_attempt_at=None,
        last_error=None,
    )


def record_failure(session: Session, claim: Claim, call: MemberCall, failure: Failure, now: datetime) -> None:
    """Record a failed call and when it is repeated. A row that has changed since the call was built is not delayed.

    A stale version grows, so that a bot with a newer version, which a restored database does not know, accepts it
    after some attempts.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    claims.renew(session, claim)
    attempts = session.scalar(sa.select(MemberSync.attempts).where(*_is_unchanged(call)))
    if attempts is None:
        return
    if failure.kind is FailureKind.REFUSED:
        failures.report_blocked(session, claim.bot_id, failure.reason, call.user_id)
    values = failures.next_attempt_values(failure, attempts, now)
    if failure.kind is FailureKind.STALE:
        values["desired_version"] = call.version + min(2**attempts, _MAX_VERSION_STEP)
    _update_unchanged(session, call, **values)


def record_unknown_member(session: Session, claim: Claim, call: MemberCall) -> None:
    """Record that the bot does not know the member whose role it should change, so that the member is added.

    Raises:
        ClaimLost: another worker has claimed the bot; nothing is recorded.
    """
    claims.renew(session, claim)
    _update_unchanged(session, call, observed_role=SyncRole.NONE, observed_version=None)


def _build_call(bot: Bot, sync: BotSync, row: MemberSync, user: User) -> MemberCall:
    path = _choose_path(bot, row)
    body: dict[str, Any] = {"companyId": bot.company_id, "version": row.desired_version}
    if path == ADD:
        # The account may be deleted, which erases its name and email; then the desired role is none.
        body["user"] = {"id": user.id, "email": user.email, "name": user.name}
    else:
        body["userId"] = row.user_id
    if path != REMOVE:
        body["role"] = row.desired_role.value
    return MemberCall(
        row_id=row.id,
        user_id=row.user_id,
        endpoint=read_endpoint(bot),
        version=row.desired_version,
        role=row.desired_role,
        path=path,
        body=body,
        idempotency_key=derive_key(path, body, row.id, bot.epoch, row.changed_at, sync.resend_before),
    )


def _choose_path(bot: Bot, row: MemberSync) -> str:
    if row.desired_role is SyncRole.NONE:
        return REMOVE
    is_member = row.observed_epoch == bot.epoch and row.observed_role not in {None, SyncRole.NONE}
    # Only a single step can be known to change the role and nothing else. Adding sets name, email and role.
    is_single_step = row.observed_version is not None and row.desired_version == row.observed_version + 1
    return CHANGE_ROLE if is_member and is_single_step and row.desired_role is not row.observed_role else ADD


def derive_key(*parts: object) -> str:
    """Derive the idempotency key of a call.

    A bot may answer a known key without doing anything. Calls that are sent again in a new epoch, after drift, or to
    confirm what was observed long ago therefore have other keys than the calls before.
    """
    return sha256(repr(parts).encode()).hexdigest()[:32]


def _update_unchanged(session: Session, call: MemberCall, **values: Any) -> None:
    update_where(session, MemberSync, *_is_unchanged(call), **values)


def _is_unchanged(call: MemberCall) -> tuple[sa.ColumnElement[bool], ...]:
    return (MemberSync.id == call.row_id, MemberSync.desired_version == call.version)

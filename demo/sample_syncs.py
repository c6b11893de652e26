"""Sample rows of the member sync in all states, for the sample bots. Used by `demo.sample_data`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Bot,
    BotSync,
    DesiredState,
    Membership,
    MembershipRole,
    MembershipState,
    MemberSync,
    Org,
    Provisioning,
    SyncRole,
    SyncState,
    User,
)
from portal.rules.roles import ROLES

_NO_CALLS = timedelta(days=365)
"""No worker calls the sample bots, so that their states stay. A retry calls a bot, and fails."""
_REFUSED = "The bot refuses the secret (HTTP 401)."
_FAILED = "The bot answered HTTP 500."


def add_syncs(session: Session, bots: Mapping[str, Bot], now: datetime) -> None:
    """Add the provisioning of each bot, people who were removed, and the rows of all people.

    Args:
        session: a transaction with the sample bots and the accounts of the demo.
        bots: the sample bots, by name.
        now: the current moment.
    """
    for bot in bots.values():
        _add_bot_sync(session, bot, now, Provisioning.MANAGED)
    _change(session, bots["cobalt-billing"], provisioning=Provisioning.OFF)
    _change(session, bots["cobalt-reception"], refused_removals=7, drift_count=7, lists_members=True)
    _change(session, bots["borealis-orders"], drift_count=3, lists_members=False)
    bots["borealis-support"].desired_state = DesiredState.STOPPED
    acme = bots["acme-front-desk"].org
    people = {name: _add_person(session, acme, name) for name in ("Petra", "Dan", "Rita", "Otto")}
    for name in ("Rita", "Otto"):
        people[name].state = MembershipState.REMOVED
    for bot in bots.values():
        for membership in session.scalars(sa.select(Membership).where(Membership.org_id == bot.org_id)):
            session.add(_build_settled(bot, membership, now))
    session.flush()
    _add_pending(session, bots, {name: row.user_id for name, row in people.items()}, now)


def _add_pending(session: Session, bots: Mapping[str, Bot], people: Mapping[str, str], now: datetime) -> None:
    desk, office, support = bots["acme-front-desk"], bots["acme-back-office"], bots["borealis-support"]
    pending = {"state": SyncState.PENDING, "changed_at": now - timedelta(minutes=4)}
    failed = pending | {"attempts": 5, "next_attempt_at": now + timedelta(days=1), "last_error": _FAILED}
    blocked = failed | {"state": SyncState.BLOCKED, "last_error": _REFUSED, "changed_at": now - timedelta(hours=5)}
    never = {"observed_role": None, "observed_version": None, "observed_epoch": None}
    _change_person(session, desk, people["Petra"], pending | never)
    _change_person(session, desk, people["Dan"], failed | {"observed_role": SyncRole.ADMIN})
    _change_person(session, desk, people["Rita"], failed | {"observed_role": SyncRole.MEMBER})
    _change_person(session, office, people["Petra"], blocked | never)
    _change_person(session, office, people["Rita"], blocked | {"observed_role": SyncRole.MEMBER})
    for row in session.scalars(sa.select(MemberSync).where(MemberSync.bot_id == support.id).limit(2)):
        row.state, row.changed_at, row.observed_role = SyncState.PENDING, now - timedelta(hours=2), None


def _add_bot_sync(session: Session, bot: Bot, now: datetime, provisioning: Provisioning) -> None:
    bot.company_id = f"company-{bot.name}"
    session.add(
        BotSync(
            bot_id=bot.id,
            provisioning=provisioning,
            state=SyncState.SYNCED,
            provisioned_epoch=bot.epoch,
            reconciled_at=now - timedelta(minutes=3),
            reconciled_epoch=bot.epoch,
            next_reconcile_at=now + _NO_CALLS,
            next_call_at=now + _NO_CALLS,
            lists_members=True,
        )
    )
    session.flush()


def _add_person(session: Session, org: Org, name: str) -> Membership:
    email = f"{name.lower()}@{org.slug}.example"
    user = User(email=email, email_normalized=email, name=f"{name} Person")
    session.add(user)
    session.flush()
    membership = Membership(org_id=org.id, user_id=user.id, role=MembershipRole.MEMBER, version=2)
    session.add(membership)
    session.flush()
    return membership


def _build_settled(bot: Bot, membership: Membership, now: datetime) -> MemberSync:
    is_active = membership.state is MembershipState.ACTIVE
    role = ROLES[bot.org.role_of(membership)].sync_role if is_active else SyncRole.NONE
    return MemberSync(
        bot_id=bot.id,
        user_id=membership.user_id,
        desired_version=2,
        desired_role=role,
        observed_version=2,
        observed_role=role,
        observed_epoch=bot.epoch,
        state=SyncState.SYNCED,
        changed_at=now - timedelta(days=2),
    )


def _change(session: Session, bot: Bot, **values: Any) -> None:
    for name, value in values.items():
        setattr(session.get_one(BotSync, bot.id), name, value)


def _change_person(session: Session, bot: Bot, user_id: str, values: Mapping[str, Any]) -> None:
    row = session.scalars(sa.select(MemberSync).filter_by(bot_id=bot.id, user_id=user_id)).one()
    for name, value in values.items():
        setattr(row, name, value)

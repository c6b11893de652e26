"""Rows of the member sync. Used by tests of pages and lists that read them."""

from typing import Any

from sqlalchemy.orm import Session

from portal.models import Bot, BotSync, MemberSync, Provisioning, SyncRole, SyncState
from tests import factories


def connect(session: Session, bot: Bot, **values: Any) -> BotSync:
    """Let a bot get members from Flotilla; by default it is provisioned and can be called."""
    bot.address = bot.address or "127.0.0.1:20001"
    bot.company_id = "company"
    sync = session.get_one(BotSync, bot.id)
    defaults = {"provisioning": Provisioning.MANAGED, "state": SyncState.SYNCED, "provisioned_epoch": bot.epoch}
    for name, value in {**defaults, **values}.items():
        setattr(sync, name, value)
    session.flush()
    return sync


def observed(session: Session, bot: Bot, user_id: str, role: SyncRole = SyncRole.MEMBER, **values: Any) -> MemberSync:
    """Add the row of a user whose role the bot has confirmed. `values` replace its columns."""
    defaults = {
        "desired_role": role,
        "desired_version": 2,
        "observed_role": role,
        "observed_version": 2,
        "observed_epoch": bot.epoch,
        "state": SyncState.SYNCED,
    }
    return factories.add(session, MemberSync(bot_id=bot.id, user_id=user_id, **{**defaults, **values}))


def pending(session: Session, bot: Bot, user_id: str, role: SyncRole = SyncRole.MEMBER, **values: Any) -> MemberSync:
    """Add the row of a user whom the bot does not know yet. `values` replace its columns."""
    defaults = {"desired_role": role, "desired_version": 1, "state": SyncState.PENDING}
    return factories.add(session, MemberSync(bot_id=bot.id, user_id=user_id, **{**defaults, **values}))

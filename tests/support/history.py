"""A fleet with a year of history: 1000 bots and a release a week. Used by tests of the cost of statements."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Audience,
    Base,
    Bot,
    BotState,
    BotSync,
    BotUpdate,
    Event,
    EventTag,
    MailState,
    Membership,
    MembershipRole,
    MemberSync,
    OneTimeToken,
    Org,
    OutgoingMail,
    Provisioning,
    Release,
    RolloutState,
    Snapshot,
    SnapshotState,
    SyncRole,
    SyncState,
    TenantMode,
    TenantUpdateConfig,
    TokenPurpose,
    Trigger,
    UpdateState,
    User,
    UserSession,
    utcnow,
)
from portal.models.base import UtcDateTime
from portal.rules.strategies import StrategyName
from tests import factories
from tests.factories import IMAGE

BOTS = 1000
NODES = 10
WEEKS = 52
SIGN_INS_OF_A_SCRIPT = 2000
PEOPLE_PER_BOT = 20

_NOW = utcnow()
_EVENTS = (EventTag.BOT_UPDATED, EventTag.BOT_STATE_CHANGED, EventTag.USER_SIGNED_IN, EventTag.USER_SIGNED_OUT)


OPERATOR_ID = "root"
OWNER_ID, ORG_ID, ORG_SLUG, BOT_ID = "user-0042", "org-0042", "org-42", "b0042"
"""One of the organizations, with its owner and its bot."""
NODE_ID = f"node-{42 % NODES}"
"""The node of the bot."""
ENDED_ROLLOUT_ID = f"r{WEEKS - 1:02}"
CURRENT_RELEASE_ID, NEW_RELEASE_ID = f"release-{WEEKS - 1:02}", f"release-{WEEKS:02}"
"""The release that all bots run, and the release at which the tag points."""


def add_history(session: Session) -> None:
    """Add the fleet and its history: 52,000 updates, snapshots and mails, and 208,000 events.

    Each week, one bot in a hundred rolls back. The last release is new: no rollout of it has started.
    """
    _add_fleet(session)
    _add_sign_ins_of_a_script(session)
    for week in range(WEEKS + 1):
        release = factories.release(
            session,
            f"1.{week}.0",
            id=f"release-{week:02}",
            digest=factories.digest(f"{week:02}"),
            first_seen_at=_NOW - timedelta(weeks=WEEKS - week, days=1),
            changelog_read_at=_NOW,
        )
        if week < WEEKS:
            _add_week(session, week, release)
    factories.polled_image(session, release, IMAGE, next_poll_at=_NOW + timedelta(minutes=20), last_checked_at=_NOW)


def _add_fleet(session: Session) -> None:
    factories.user(session, "root", id="root", is_platform_admin=True)
    for number in range(NODES):
        factories.node(session, f"node-{number}", id=f"node-{number}")
    session.add_all(
        User(id=f"user-{n:04}", email=f"u{n}@example.com", email_normalized=f"u{n}@example.com", name=f"User {n}")
        for n in range(BOTS)
    )
    session.flush()
    orgs = (Org(id=f"org-{n:04}", slug=f"org-{n}", name=f"Org {n}", owner_id=f"user-{n:04}") for n in range(BOTS))
    session.add_all(orgs)
    session.flush()
    session.add_all(
        Membership(org_id=f"org-{n:04}", user_id=f"user-{n:04}", role=MembershipRole.ADMIN) for n in range(BOTS)
    )
    session.add_all(TenantUpdateConfig(org_id=f"org-{n:04}", mode=TenantMode.AUTO) for n in range(BOTS))
    session.add_all(
        Bot(
            id=f"b{number:04}",
            org_id=f"org-{number:04}",
            node_id=f"node-{number % NODES}",
            name=f"Bot {number}",
            subdomain=f"bot-{number}",
            image=IMAGE,
            current_digest=factories.digest(f"{WEEKS - 1:02}"),
            state=BotState.RUNNING,
            container_id=f"container-{number}",
            checked_at=_NOW,
            address="127.0.0.1:20000",
            company_id=f"company-{number}",
        )
        for number in range(BOTS)
    )
    session.flush()
    _add_syncs(session)


def _add_syncs(session: Session) -> None:
    """Connect every bot, and let it know 20 people. The last call about one of them failed, so no call is due."""
    later = _NOW + timedelta(days=1)
    session.add_all(
        BotSync(
            bot_id=f"b{number:04}",
            provisioning=Provisioning.MANAGED,
            state=SyncState.SYNCED,
            provisioned_epoch=1,
            reconciled_epoch=1,
            next_reconcile_at=later,
        )
        for number in range(BOTS)
    )
    rows = [
        {
            "bot_id": f"b{number:04}",
            "user_id": f"user-{(number + person) % BOTS:04}",
            "desired_version": 1,
            "desired_role": SyncRole.MEMBER,
            "observed_version": 1,
            "observed_role": SyncRole.MEMBER,
            "observed_epoch": 1,
            "observed_at": _NOW,
            "state": _choose_sync_state(number, person),
            "attempts": 0 if person else 1,
            "next_attempt_at": None if person else later,
        }
        for number in range(BOTS)
        for person in range(PEOPLE_PER_BOT)
    ]
    session.execute(sa.insert(MemberSync), rows)
    session.flush()


def _choose_sync_state(number: int, person: int) -> SyncState:
    if person:
        return SyncState.SYNCED
    return SyncState.PENDING if number % 50 else SyncState.BLOCKED


def _add_week(session: Session, week: int, release: Release) -> None:
    """Add an ended rollout to all bots, and what it left in the tables of history."""
    began = _NOW - timedelta(weeks=WEEKS - week)
    ended = began + timedelta(minutes=1)
    rollout = factories.rollout(
        session,
        release,
        id=f"r{week:02}",
        strategy=StrategyName.ROLLING_WAVE,
        state=RolloutState.COMPLETED,
        trigger=Trigger.AUTO,
        audience=Audience.AUTOMATIC,
        created_at=began,
        started_at=began,
        ended_at=ended,
    )
    update_id = rollout.id + "-" + Bot.id
    failed = sa.func.substr(Bot.id, 4, 2) == f"{week:02}"
    previous = factories.digest(f"{week - 1:02}")
    _insert_for_each_bot(
        session,
        BotUpdate,
        id=update_id,
        rollout_id=rollout.id,
        bot_id=Bot.id,
        state=sa.case((failed, UpdateState.ROLLED_BACK.value), else_=UpdateState.UPDATED.value),
        wave=1,
        previous_digest=previous,
        new_container_id="new-" + update_id,
        created_at=began,
        started_at=began,
        ended_at=ended,
        cleaned_at=ended,
    )
    _insert_for_each_bot(
        session,
        Snapshot,
        id=update_id,
        update_id=update_id,
        node_id=Bot.node_id,
        volume="data",
        archive="/snapshots/" + update_id,
        state=SnapshotState.DELETED.value,
        created_at=began,
    )
    _insert_for_each_bot(
        session,
        OutgoingMail,
        id="m" + update_id,
        dedupe_key="updated:" + update_id,
        to=User.email,
        template="updated",
        state=MailState.SENT.value,
        created_at=ended,
        next_attempt_at=ended,
        sent_at=ended,
    )
    if week % 4 == 0:
        _add_sign_ins(session, week, began)
    for tag in _EVENTS:
        about_user = tag.startswith("user.")
        _insert_for_each_bot(
            session,
            Event,
            at=ended,
            tag=tag.value,
            actor_id=User.id if about_user else None,
            org_id=None if about_user else Bot.org_id,
            bot_id=None if about_user else Bot.id,
            rollout_id=None if about_user else rollout.id,
            data=_json_object(session, "user_id", User.id),
        )


def _add_sign_ins(session: Session, week: int, began: datetime) -> None:
    _insert_for_each_bot(
        session,
        UserSession,
        id_hash=f"session-{week}-" + Bot.id,
        user_id=User.id,
        authenticated_at=began,
        last_seen_at=began,
        expires_at=began + timedelta(days=7),
    )
    _insert_for_each_bot(
        session,
        OneTimeToken,
        id=f"t{week}-" + Bot.id,
        purpose=TokenPurpose.RESET.value,
        user_id=User.id,
        email=User.email,
        email_normalized=User.email,
        created_at=began,
        expires_at=began + timedelta(hours=1),
    )


def _add_sign_ins_of_a_script(session: Session) -> None:
    began = _NOW - timedelta(weeks=WEEKS)
    moments = [began + timedelta(minutes=number) for number in range(SIGN_INS_OF_A_SCRIPT)]
    rows = [
        {
            "id_hash": f"script-{number}",
            "user_id": OPERATOR_ID,
            "last_seen_at": moment,
            "expires_at": moment + timedelta(days=7),
        }
        for number, moment in enumerate(moments)
    ]
    session.execute(sa.insert(UserSession), rows)


def _insert_for_each_bot(session: Session, table: type[Base], **values: Any) -> None:
    """Insert one row per bot. Values are constants or expressions of the bot, its organization and its owner."""
    selected = [
        _constant(value) if value is None or isinstance(value, str | int | datetime) else value
        for value in values.values()
    ]
    source = sa.select(*selected).select_from(Bot).join(Org, Org.id == Bot.org_id).join(User, User.id == Org.owner_id)
    session.execute(sa.insert(table).from_select(list(values), source))


def _constant(value: str | int | datetime | None) -> sa.ColumnElement[Any]:
    return sa.literal(value, UtcDateTime()) if isinstance(value, datetime) else sa.literal(value)


def _json_object(session: Session, key: str, value: Any) -> sa.ColumnElement[Any]:
    if session.get_bind().dialect.name == "sqlite":
        return sa.func.json_object(key, value)
    return sa.func.json_build_object(key, value)

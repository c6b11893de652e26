"""Progress of creations: due bots, attempts, failures, activation. Used by the scheduler and `daemon.bots.create`.

The functions that write belong to fenced transactions of the worker that holds the lease of the bot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import database_now
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    EventTag,
    Node,
    NodeState,
    Org,
    OrgState,
    PolledImage,
    ReadingPull,
    Release,
    update_where,
)
from portal.rules.hidden_secrets import hide_secrets
from portal.rules.references import parse_reference
from portal.services import events, fleet_settings
from portal.services.bots import bot_template, leases, placement, state_changes
from portal.services.bots.creation import ContainerSettings

_FIRST_RETRY_WAIT = timedelta(seconds=10)
_LONGEST_RETRY_WAIT = timedelta(minutes=15)
_WAIT_FOR_RELEASE = timedelta(seconds=2)


@dataclass(frozen=True)
class Attempt:
    """One attempt to create the container of a bot.

    Attributes:
        bot: the bot.
        node: its node.
        container: the settings of the container.
        release: the release to run.
        install_id: id of this installation, for labels.
    """

    bot: Bot
    node: Node
    container: ContainerSettings
    release: Release
    install_id: str

    @property
    def image(self) -> str:
        """The release as `repository@digest`."""
        return parse_reference(self.release.repository).pinned(self.release.digest)

    def hide_secrets(self, text: str) -> str:
        """Replace the secrets that the container gets, which a bot may write into its log."""
        return hide_secrets(text, [*self.container.environment.values(), *(self.bot.provision_secret or {}).values()])


def list_due(session: Session, now: datetime, *, repeated: bool) -> Sequence[str]:
    """Return the ids of bots to create now, whose lease is free and whose node answers; oldest first.

    Args:
        session: the transaction.
        now: the moment.
        repeated: whether to return bots with failed attempts or bots without.
    """
    is_wanted = Bot.creation_attempts > 0 if repeated else Bot.creation_attempts == 0
    is_free = leases.is_free(database_now(session))
    conditions = (is_free, is_wanted, Node.last_error.is_(None), *_is_due(now))
    query = sa.select(Bot.id).join(Bot.org).join(Bot.node).where(*conditions)
    return session.scalars(query.order_by(Bot.created_at, Bot.id)).all()


def begin_attempt(session: Session, bot_id: str, now: datetime) -> Attempt | None:
    """Begin an attempt, or return None when the creation is not due or there is no release yet."""
    bot = session.scalar(sa.select(Bot).join(Bot.org).join(Bot.node).where(Bot.id == bot_id, *_is_due(now)))
    if bot is None:
        return None
    row = session.scalar(sa.select(PolledImage).where(PolledImage.image == bot.image))
    release = row.release if row is not None else None
    if release is None and row is not None and row.next_poll_at is None:
        row.next_poll_at = now  # an image that only pinned bots follow is polled once
    if release is None or release.quarantined_at is not None:
        _postpone(session, bot, _describe_missing_release(bot, row), now)
        return None
    bot.creation_attempts += 1
    container = ContainerSettings(**bot.spec["creation"])
    return Attempt(bot, bot.node, container, release, fleet_settings.get_settings(session).install_id)


def record_pull(session: Session, attempt: Attempt, now: datetime) -> None:
    """Record that the node pulls an image that it does not have, so that the collector may remove it one day."""
    session.merge(ReadingPull(node_id=attempt.node.id, release_id=attempt.release.id, pulled_at=now))


def end_failed(session: Session, attempt: Attempt, error: str, now: datetime, *, change_port: bool = False) -> None:
    """Record that an attempt failed, unless an operator has requested another one with new settings since.

    Args:
        session: a fenced transaction.
        attempt: the attempt.
        error: the reason, for operators.
        now: the moment.
        change_port: see `record_failure`.
    """
    if _is_current(session.get_one(Bot, attempt.bot.id), attempt):
        record_failure(session, attempt.bot.id, error, now, change_port=change_port)


def record_failure(session: Session, bot_id: str, error: str, now: datetime, *, change_port: bool = False) -> None:
    """Record why an attempt failed. The wait before the next one doubles from 10 seconds up to 15 minutes.

    Args:
        session: a fenced transaction.
        bot_id: the bot.
        error: the reason, for operators.
        now: the moment.
        change_port: reserve another port, because a program that Flotilla does not know may use this one.
    """
    bot = session.get_one(Bot, bot_id)
    if change_port:
        bot_template.lock_template(session)
        bot.host_port = placement.find_next_port(session, bot) or bot.host_port
    wait = min(_FIRST_RETRY_WAIT * 2 ** min(max(bot.creation_attempts - 1, 0), 12), _LONGEST_RETRY_WAIT)
    is_new = bot.creation_error is None
    bot.creation_error, bot.creation_due_at = error, now + wait
    if is_new:
        # Customers read this event, too, so that it contains no error.
        events.record(session, EventTag.BOT_CREATION_FAILED, org_id=bot.org_id, bot_id=bot.id)


def activate(session: Session, attempt: Attempt, found: dict[str, Any], address: str | None, now: datetime) -> bool:
    """Make a healthy container the container of the bot, which becomes active.

    Args:
        session: a fenced transaction.
        attempt: the attempt.
        found: description of the container, from `capture`.
        address: `host:port` of the container.
        now: the moment.

    Returns:
        False when the bot was removed or got other settings in between, so that the container has to be removed.
    """
    bot = session.get_one(Bot, attempt.bot.id)
    if not _is_current(bot, attempt):
        return False

    digest = parse_reference(found["container"]["Config"]["Image"]).digest
    values = {
        "phase": BotPhase.ACTIVE,
        "spec": found,
        "container_id": found["container"]["Id"],
        "container_name": str(found["container"]["Name"]).removeprefix("/"),
        "current_digest": digest,
        "address": address,
        "state_since": now,
        "checked_at": now,
        "creation_error": None,
        "creation_due_at": None,
    }
    state_changes.set_state(session, bot, BotState.RUNNING, None, now)
    update_where(session, Bot, Bot.id == bot.id, **values)
    data = {"digest": digest, "attempts": bot.creation_attempts}
    events.record(session, EventTag.BOT_READY, org_id=bot.org_id, bot_id=bot.id, data=data)
    return True


def _is_current(bot: Bot, attempt: Attempt) -> bool:
    """Return whether a bot is still being created with the settings of an attempt. The caller has locked its row."""
    if bot.phase is not BotPhase.CREATING:
        return False
    return bool(bot.spec["creation"]["creation_id"] == attempt.container.creation_id)


def _is_due(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        Bot.phase == BotPhase.CREATING,
        Bot.creation_due_at <= now,
        Org.state == OrgState.ACTIVE,
        Node.state != NodeState.DRAINING,
    )


def _postpone(session: Session, bot: Bot, error: str | None, now: datetime) -> None:
    if error is None:
        bot.creation_due_at = now + _WAIT_FOR_RELEASE
        return
    bot.creation_attempts += 1
    record_failure(session, bot.id, error, now)


def _describe_missing_release(bot: Bot, row: PolledImage | None) -> str | None:
    """Say why there is no release to run; None while the first poll of the image is due or in progress."""
    if row is not None and row.release is not None:
        reason = f"{row.release.quarantine_reason}. Lift the quarantine, or point the tag at another release"
        return f"Release {row.release.version} of {bot.image} is quarantined: {reason}."
    if row is None or row.last_error is None:
        return None
    return f"The registry has no release of {bot.image}: {row.last_error}"

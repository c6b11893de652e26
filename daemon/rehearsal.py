"""Rehearsal of the statements of frequent jobs before processes are forked for them. Used by the worker.

SQLAlchemy prepares its mappings and compiles each statement when a process first uses it. Each job runs in
another process, which would repeat this work. The supervisor therefore executes the statements of an update and
of a probe once, on rows that no other process sees, and rolls them back. Forked processes inherit what it prepared.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    Node,
    Org,
    Release,
    Rollout,
    RolloutState,
    Step,
    Trigger,
    User,
    new_id,
    utcnow,
)
from portal.rules.strategies import StrategyName
from portal.services import fleet_settings
from portal.services.bots import leases, nodes, observations, snapshots
from portal.services.bots.observations import Observation
from portal.services.gateway import processes
from portal.services.rollouts import outcomes, updates


class _Rehearsed(Exception):
    """Ends the transaction of a rehearsal, so that it is rolled back."""


def rehearse(database: Database) -> None:
    """Execute the statements of an update and of a probe in a transaction that is rolled back.

    Raises:
        SQLAlchemyError: the database cannot be used.
    """
    with suppress(_Rehearsed), database.transaction() as session:
        update_id = _add_update(session)
        session.expunge_all()
        _rehearse_update(session, update_id)
        _rehearse_probe(session, session.get_one(BotUpdate, update_id).bot)
        raise _Rehearsed


def _add_update(session: Session) -> str:
    name = f"rehearsal-{new_id()}"
    user = User(email=f"{name}@invalid", email_normalized=f"{name}@invalid", name=name)
    node = Node(name=name, docker_url="unix:///nowhere", snapshot_dir="/nowhere")
    release = Release(repository=name, image=name, digest=f"sha256:{'0' * 64}")
    session.add_all([user, node, release])
    session.flush()
    org = Org(slug=name, name=name, owner_id=user.id)
    strategy = StrategyName.SINGLE_BOT
    rollout = Rollout(
        release=release,
        strategy=strategy,
        parameters={},
        state=RolloutState.RUNNING,
        trigger=Trigger.OPERATOR,
        audience=Audience.ALL,
        ignore_windows=True,
    )
    session.add_all([org, rollout])
    session.flush()
    bot = Bot(org_id=org.id, node_id=node.id, name=name, subdomain=name, image=name, container_id=name)
    bot.state, bot.current_digest = BotState.RUNNING, f"sha256:{'1' * 64}"
    session.add(bot)
    session.flush()
    update = BotUpdate(rollout_id=rollout.id, bot_id=bot.id)
    session.add(update)
    session.flush()
    return update.id


def _rehearse_update(session: Session, update_id: str) -> None:
    updates.list_unfinished(session, session.get_one(BotUpdate, update_id))
    bot_id = session.get_one(BotUpdate, update_id).bot_id
    fence = leases.acquire(session, bot_id, "rehearsal")
    leases.renew(session, bot_id, fence)
    fleet_settings.get_settings(session)
    updates.claim_update(session, update_id, utcnow())
    update = updates.load(session, update_id)
    is_held = leases.is_held(bot_id, fence)
    for step in Step:
        updates.enter_step(session, update, step, utcnow(), is_held)
    updates.add_to_journal(session, update, is_held, helper_image="rehearsal")
    updates.record(session, update, is_held, saved_container={}, journal={})
    updates.record(session, update, is_held, new_container_id="rehearsal")
    update.bot.container_name = "rehearsal"
    snapshots.record_start(session, update.id, update.bot.node_id, {"rehearsal": "", "second": ""})
    processes.has_drained(session, update.id)
    facts = {"size": 0, "entries": 0, "checksum": "", "helper_digest": ""}
    snapshots.mark_verified(session, update.id, "rehearsal", **facts)
    outcomes.commit_healthy(session, update, "rehearsal", None, utcnow())
    snapshots.list_for_update(session, update.id)
    snapshots.mark_all_deleted(session, update.id)
    updates.record(session, update, is_held, cleaned_at=utcnow())
    leases.release(session, bot_id, fence)


def _rehearse_probe(session: Session, bot: Bot) -> None:
    observations.list_observable(session, bot.node_id)
    observed = Observation(bot.id, str(bot.container_id), BotState.RUNNING, None, "127.0.0.1:1")
    nodes.record_answer(session, bot.node_id, utcnow())
    observations.record_observations(session, bot.node_id, [observed], utcnow())

"""Sample rows for development without Docker: bots, releases and rollouts in many states. Used by `make serve`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from demo.sample_syncs import add_syncs
from demo.seed import BOTS
from demo.versions import CORRUPTING, FIRST, SECOND, THIRD, BotVersion
from portal.models import (
    Audience,
    Bot,
    BotPhase,
    BotRequest,
    BotState,
    BotStateChange,
    BotTemplate,
    BotUpdate,
    DesiredState,
    Node,
    NodeState,
    Org,
    PolledImage,
    Release,
    Rollout,
    RolloutState,
    SkipReason,
    Step,
    TenantMode,
    TenantUpdateConfig,
    Trigger,
    UpdateState,
    User,
    Verdict,
    utcnow,
)
from portal.rules.strategies import StrategyName
from portal.services.orgs import creation

REGISTRY = "registry.example"
"""Registry of the sample bots. The domain is reserved for examples, so nothing answers there."""

_REPOSITORY = f"{REGISTRY}/flotilla/reference-bot"
_IMAGE = f"{_REPOSITORY}:stable"
_STEP = timedelta(seconds=2)
_HEALTH_ERROR = "Health check failed: HTTP 503 for 30 s"


def add_sample_data(session: Session) -> None:
    """Add bots in every phase, and a completed, a failed and a paused rollout, to the demo's organizations.

    The node is offline and stays offline, so that no worker changes the states of the bots.

    Args:
        session: a transaction in a migrated database.
    """
    now = utcnow()
    orgs = {org.slug: org for org in session.scalars(sa.select(Org))}
    operator_id = session.scalar(sa.select(User.id).where(User.is_platform_admin))
    node = Node(
        name="sample",
        docker_url="unix:///nonexistent/docker.sock",
        snapshot_dir="/var/lib/flotilla/snapshots",
        state=NodeState.OFFLINE,
        last_error="the sample node has no Docker engine",
    )
    session.add(node)
    first, second, bad, latest = (
        _add_release(session, version, now - timedelta(days=days))
        for version, days in ((FIRST, 60), (SECOND, 20), (CORRUPTING, 6), (THIRD, 1))
    )
    bad.quarantined_at, bad.quarantine_reason = now - timedelta(days=6), f"The canary rolled back. {_HEALTH_ERROR}"
    polled = PolledImage(
        image=_IMAGE,
        release_id=latest.id,
        last_digest=latest.digest,
        last_checked_at=now - timedelta(minutes=4),
        next_poll_at=now + timedelta(days=1),
    )
    session.add(polled)
    session.add(TenantUpdateConfig(org_id=orgs["acme"].id, mode=TenantMode.AUTO, preferred_hour_utc=5))
    session.flush()
    bots = [_bot(orgs[bot.org], node, bot.name, second, now) for bot in BOTS]
    session.add_all(bots)
    session.flush()
    bots[3].state, bots[3].state_detail = BotState.UNHEALTHY, "Health check timed out (5 s)"
    bots[5].state, bots[5].state_detail = BotState.STOPPED, "exited with status 0"
    bots[5].desired_state = bots[5].applied_state = DesiredState.STOPPED
    for bot in bots:
        _add_state_changes(session, bot, now)
    _add_bots_in_other_phases(session, orgs, node, second, now)
    _add_waiting_org(session, orgs["acme"].owner, now)
    _add_completed_rollout(session, first, second, bots, now - timedelta(days=20))
    _add_failed_rollout(session, second, bad, bots, now - timedelta(days=6))
    _add_paused_rollout(session, second, latest, bots, now - timedelta(minutes=30))
    add_syncs(session, {bot.name: bot for bot in bots}, now)
    session.execute(sa.update(Rollout).values(started_by=operator_id))


def _add_release(session: Session, version: BotVersion, moment: datetime) -> Release:
    digest = f"sha256:{sha256(version.version.encode()).hexdigest()}"
    release = Release(
        repository=_REPOSITORY,
        image=_IMAGE,
        digest=digest,
        changelog=version.changelog(),
        changelog_read_at=moment,
        first_seen_at=moment,
    )
    session.add(release)
    session.flush()
    return release


def _bot(org: Org, node: Node, name: str, release: Release, now: datetime) -> Bot:
    return Bot(
        org_id=org.id,
        node_id=node.id,
        name=name,
        subdomain=name,
        image=_IMAGE,
        container_id=sha256(name.encode()).hexdigest(),
        container_name=name,
        current_digest=release.digest,
        state=BotState.RUNNING,
        state_since=now - timedelta(days=3),
        checked_at=now - timedelta(seconds=20),
        address="127.0.0.1:20001",
    )


def _add_state_changes(session: Session, bot: Bot, now: datetime) -> None:
    """Add a health history with an outage four days ago, and the present state since three hours."""
    healthy, moments = BotState.RUNNING, (timedelta(days=4), timedelta(days=4, minutes=-20), timedelta(hours=3))
    states = (healthy, BotState.UNHEALTHY, healthy, bot.state)
    bot.created_at = now - timedelta(days=60)
    for ago, old, new in zip(moments, states, states[1:], strict=False):
        if old is not new:
            session.add(BotStateChange(bot_id=bot.id, at=now - ago, old=old, new=new))


def _add_bots_in_other_phases(
    session: Session, orgs: Mapping[str, Org], node: Node, release: Release, now: datetime
) -> None:
    """Add bots that are being created, cannot be created, are being removed, or need attention."""
    session.get_one(BotTemplate, 1).image = _IMAGE
    nothing = {"container_id": None, "container_name": None, "current_digest": None, "address": None}
    new = {"phase": BotPhase.CREATING, "state": BotState.UNKNOWN, "checked_at": None, "creation_due_at": now}
    failed = {"creation_attempts": 3, "creation_error": _HEALTH_ERROR}
    ending = {"phase": BotPhase.REMOVING, "state": BotState.STOPPED, "remove_after": now + timedelta(days=5)}
    stopped = {"desired_state": DesiredState.STOPPED, "applied_state": DesiredState.STOPPED}
    repair = "The rollback failed too: the archive of volume shop-data is not readable.\ndocker start 4f2a9c1be077"
    for slug, name, values in (
        ("acme", "acme-new", {**new, **nothing}),
        ("borealis", "borealis-new", {**new, **nothing, **failed}),
        ("cobalt", "cobalt-archive", {**ending, **stopped, "keep_data": True}),
        ("cobalt", "cobalt-trial", {**ending, **stopped, "keep_data": False}),
        ("borealis", "borealis-shop", {"state": BotState.STOPPED, "needs_attention": repair}),
    ):
        bot = _bot(orgs[slug], node, name, release, now)
        for column, value in values.items():
            setattr(bot, column, value)
        session.add(bot)


def _add_waiting_org(session: Session, owner: User, now: datetime) -> None:
    """Add an organization whose first bot found no place. The distant moment keeps it so."""
    org = creation.create_org(session, "Delta Dance", owner, "delta", now=now)
    error = "No active node has a free port. Add a node with `flotilla nodes add`, or activate one."
    session.add(BotRequest(org_id=org.id, due_at=now + timedelta(days=365), error=error))


def _add_rollout(
    session: Session, release: Release, state: RolloutState, started: datetime, reason: str | None = None
) -> Rollout:
    rollout = Rollout(
        release_id=release.id,
        strategy=StrategyName.ROLLING_WAVE,
        state=state,
        reason=reason,
        trigger=Trigger.OPERATOR,
        audience=Audience.ALL,
        ignore_windows=True,
        created_at=started,
        started_at=started,
        ended_at=None if state in Rollout.OPEN else started + timedelta(minutes=5),
    )
    session.add(rollout)
    session.flush()
    return rollout


def _add_completed_rollout(session: Session, old: Release, new: Release, bots: list[Bot], started: datetime) -> None:
    rollout = _add_rollout(session, new, RolloutState.COMPLETED, started)
    session.add_all(_ended_update(rollout, bot, old, 1 if bot is bots[0] else 2, started) for bot in bots)


def _add_failed_rollout(session: Session, old: Release, new: Release, bots: list[Bot], started: datetime) -> None:
    rollout = _add_rollout(session, new, RolloutState.ABORTED, started, f"The canary rolled back. {_HEALTH_ERROR}")
    canary = _ended_update(rollout, bots[0], old, 1, started)
    canary.state, canary.verdict, canary.error = UpdateState.ROLLED_BACK, Verdict.FAILED, _HEALTH_ERROR
    canary.log_tail = "reference bot 1.7.0 starts\nlistening on port 3100"
    session.add(canary)
    session.add_all(_skipped_update(rollout, bot, SkipReason.ABORTED, started) for bot in bots[1:])


def _add_paused_rollout(session: Session, old: Release, new: Release, bots: list[Bot], started: datetime) -> None:
    rollout = _add_rollout(session, new, RolloutState.PAUSED, started, "Paused by an operator")
    for number, bot in enumerate(bots[:2]):
        session.add(_ended_update(rollout, bot, old, number + 1, started + timedelta(minutes=number)))
        bot.current_digest = new.digest
    session.add_all(BotUpdate(rollout_id=rollout.id, bot_id=bot.id, created_at=started) for bot in bots[2:5])
    session.add(_skipped_update(rollout, bots[5], SkipReason.STOPPED, started))


def _ended_update(rollout: Rollout, bot: Bot, old: Release, wave: int, started: datetime) -> BotUpdate:
    steps = [step for step in Step if step is not Step.ROLLBACK]
    moments = [started + _STEP * number for number in range(len(steps) + 1)]
    return BotUpdate(
        rollout_id=rollout.id,
        bot_id=bot.id,
        wave=wave,
        state=UpdateState.UPDATED,
        step=Step.COMMIT,
        verdict=Verdict.HEALTHY,
        attempt=1,
        previous_digest=old.digest,
        timings={
            step: [begun.isoformat(), ended.isoformat()]
            for step, begun, ended in zip(steps, moments, moments[1:], strict=False)
        },
        created_at=started,
        started_at=started,
        ended_at=moments[-1],
        stopped_at=moments[steps.index(Step.STOP)],
        answering_at=moments[steps.index(Step.HEALTH)],
        cleaned_at=moments[-1],
    )


def _skipped_update(rollout: Rollout, bot: Bot, reason: SkipReason, moment: datetime) -> BotUpdate:
    values = BotUpdate.skip_values(reason, moment)
    return BotUpdate(rollout_id=rollout.id, bot_id=bot.id, state=UpdateState.SKIPPED, created_at=moment, **values)

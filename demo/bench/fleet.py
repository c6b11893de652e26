"""A large fleet as rows without containers, and updates that succeed at once. Used by the database benchmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotState,
    BotUpdate,
    Node,
    Org,
    PolledImage,
    Release,
    Rollout,
    Step,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
    User,
    move,
    utcnow,
)
from portal.models.base import new_id
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.rollouts import rollouts, selection

BOTS = 1000
"""Number of bots of the benchmarks that measure one size; each belongs to a different organization."""

NODES = 20
_REPOSITORY = "registry.example/acme/bot"
_IMAGE = f"{_REPOSITORY}:stable"
_STEP_SECONDS = 2
_ENVIRONMENT = {f"SETTING_{number}": "a value of usual length" for number in range(40)}
"""Rows of bots are as large as in an installation, because each has the description of its container."""


def create_fleet(session: Session, bots: int | None = None) -> tuple[User, Release]:
    """Create a fleet on one release while the tag points at the next; return an operator and the next release.

    Args:
        session: the transaction.
        bots: number of bots; by default `BOTS`.
    """
    operator = User(
        email="root@bench.example", email_normalized="root@bench.example", name="Root", is_platform_admin=True
    )
    old, new = (describe_release(version) for version in ("1.0.0", "1.1.0"))
    nodes = [
        Node(name=f"node-{number}", docker_url="unix:///nowhere", snapshot_dir="/nowhere") for number in range(NODES)
    ]
    session.add_all([operator, old, new, *nodes])
    session.flush()
    session.add(PolledImage(image=_IMAGE, last_digest=new.digest, release_id=new.id, last_checked_at=utcnow()))
    _add_bots(session, operator, old, nodes, range(BOTS if bots is None else bots))
    return operator, new


def describe_release(version: str) -> Release:
    """Return a release that is not in the database yet."""
    changelog = {"version": version, "date": "2026-01-15", "sections": []}
    return Release(repository=_REPOSITORY, image=_IMAGE, digest=describe_digest(version), changelog=changelog)


def describe_digest(version: str) -> str:
    """Return the digest of a version."""
    return f"sha256:{hashlib.sha256(version.encode()).hexdigest()}"


def set_preferences(session: Session, mode: TenantMode, hour_utc: int) -> None:
    """Let every organization choose these preferences."""
    session.execute(sa.delete(TenantUpdateConfig))
    chosen = {"mode": mode, "preferred_hour_utc": hour_utc}
    session.execute(
        sa.insert(TenantUpdateConfig), [{"org_id": org_id, **chosen} for org_id in session.scalars(sa.select(Org.id))]
    )


def start_rollout(session: Session, release: Release, operator: User) -> Rollout:
    """Start a rollout to the whole fleet whose second wave contains all bots after the canary."""
    rollout_request = selection.RolloutRequest(
        release=release,
        strategy=StrategyName.ROLLING_WAVE,
        parameters={"percentage": 100, "pause_seconds": 0},
        audience=Audience.ALL,
        ignore_windows=True,
    )
    return rollouts.start_rollout(
        session, Allowlist.parse(["registry.example"]), rollout_request, utcnow(), actor=operator
    )


def complete_updates(database: Database, update_ids: Iterable[str]) -> None:
    """Write the rows that workers write when these updates succeed."""
    with database.transaction() as session:
        for update_id in update_ids:
            update = session.get_one(BotUpdate, update_id)
            started = utcnow()
            moments = [started + timedelta(seconds=_STEP_SECONDS * number) for number in range(len(Step) + 1)]
            timings = {
                step: [moments[number].isoformat(), moments[number + 1].isoformat()]
                for number, step in enumerate(Step)
            }
            move(session, update, UpdateState.PENDING, UpdateState.RUNNING, attempt=1, started_at=started)
            move(
                session,
                update,
                UpdateState.RUNNING,
                UpdateState.UPDATED,
                timings=timings,
                ended_at=started,
                cleaned_at=started,
                stopped_at=moments[5],
                answering_at=moments[9],
            )
            update.bot.current_digest = update.rollout.release.digest


def _add_bots(session: Session, owner: User, release: Release, nodes: list[Node], numbers: Iterable[int]) -> None:
    orgs = [
        {"id": new_id(), "slug": f"org-{number}", "name": f"Organization {number}", "owner_id": owner.id}
        for number in numbers
    ]
    session.execute(sa.insert(Org), orgs)
    rows = [
        _describe_bot(org["id"], nodes[number % NODES], release, number)
        for number, org in zip(numbers, orgs, strict=True)
    ]
    session.execute(sa.insert(Bot), rows)


def _describe_bot(org_id: str, node: Node, release: Release, number: int) -> dict[str, Any]:
    now = utcnow()
    return {
        "org_id": org_id,
        "node_id": node.id,
        "name": f"Bot {number}",
        "subdomain": f"bot-{number}",
        "image": _IMAGE,
        "current_digest": release.digest,
        "container_id": f"container-{number}",
        "state": BotState.RUNNING,
        "state_since": now,
        "checked_at": now,
        "address": "127.0.0.1:20001",
        "created_at": now - timedelta(days=1) + timedelta(seconds=number),
        "spec": {"Config": {"Env": _ENVIRONMENT}},
    }

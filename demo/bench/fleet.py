"""A large fleet as rows without containers, and updates that succeed at once. Used by the database benchmarks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

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
    UpdateState,
    User,
    move,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.rollouts import rollouts, selection

BOTS = 1000
"""Number of bots; each belongs to a different organization."""

_NODES = 10
_REPOSITORY = "registry.example/acme/bot"
_IMAGE = f"{_REPOSITORY}:stable"
_STEP_SECONDS = 2


def create_fleet(session: Session) -> tuple[User, Release]:
    """Create a fleet on one release while the tag points at the next; return an operator and the next release."""
    operator = User(
        email="root@bench.example", email_normalized="root@bench.example", name="Root", is_platform_admin=True
    )
    old, new = (_new_release(version) for version in ("1.0.0", "1.1.0"))
    nodes = [
        Node(name=f"node-{number}", docker_url="unix:///nowhere", snapshot_dir="/nowhere") for number in range(_NODES)
    ]
    session.add_all([operator, old, new, *nodes])
    session.flush()
    session.add(PolledImage(image=_IMAGE, last_digest=new.digest, release_id=new.id, last_checked_at=utcnow()))
    orgs = [Org(slug=f"org-{number}", name=f"Organization {number}", owner_id=operator.id) for number in range(BOTS)]
    session.add_all(orgs)
    session.flush()
    session.add_all(_new_bot(org, nodes[number % _NODES], old, number) for number, org in enumerate(orgs))
    session.flush()
    return operator, new


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


def _new_release(version: str) -> Release:
    digest = "sha256:" + version.replace(".", "").ljust(64, "0")
    changelog = {"version": version, "date": "2026-01-15", "sections": []}
    return Release(repository=_REPOSITORY, image=_IMAGE, digest=digest, changelog=changelog)


def _new_bot(org: Org, node: Node, release: Release, number: int) -> Bot:
    return Bot(
        org_id=org.id,
        node_id=node.id,
        name=f"Bot {number}",
        subdomain=f"bot-{number}",
        image=_IMAGE,
        current_digest=release.digest,
        state=BotState.RUNNING,
        state_since=utcnow(),
        checked_at=utcnow(),
        address="127.0.0.1:20001",
    )

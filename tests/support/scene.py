"""Rows of a small fleet: two releases, three bots and rollouts. Used by tests of pages."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from portal.models import (
    BotUpdate,
    EventTag,
    Org,
    Release,
    Rollout,
    RolloutState,
    UpdateState,
    utcnow,
)
from portal.services import events
from tests import factories


@dataclass(frozen=True)
class Scene:
    """Ids of the rows of a small fleet."""

    old: str
    new: str
    new_digest: str
    bots: list[str]
    node: str


def digest(letter: str) -> str:
    """Return a digest of 64 equal characters."""
    return "sha256:" + letter * 64


def release(session: Session, version: str, letter: str, days_old: int) -> Release:
    """Add a release with a changelog."""
    section = {"title": "New", "items": [f"What {version} brings", "<b>not bold</b>"]}
    return factories.release(
        session,
        version,
        digest=digest(letter),
        changelog={"version": version, "date": "2026-11-20", "sections": [section]},
        first_seen_at=utcnow() - timedelta(days=days_old),
    )


def small_fleet(session: Session, org: Org, bots: int = 3) -> Scene:
    """Add bots on the old release, while the tag points at the new one."""
    old, new = release(session, "1.4.0", "a", 9), release(session, "1.5.0", "b", 1)
    factories.polled_image(session, new, last_checked_at=utcnow())
    node = factories.node(session, docker_url="unix:///var/run/docker.sock", snapshot_dir="/var/lib/flotilla")
    rows = [
        factories.bot(
            session,
            org,
            node,
            name=f"Paperclip {number}",
            subdomain=f"paperclip-{number}",
            current_digest=old.digest,
            state_since=utcnow() - timedelta(hours=5),
            checked_at=utcnow(),
            container_id=f"{number:064x}",
            address="127.0.0.1:20001",
            unprotected=["/srv/shared"] if number == 2 else [],
        )
        for number in range(1, bots + 1)
    ]
    for bot in rows:
        events.record(session, EventTag.BOT_CREATED, org_id=org.id, bot_id=bot.id, data={"adopted": True})
    return Scene(old=old.id, new=new.id, new_digest=new.digest, bots=[bot.id for bot in rows], node=node.id)


def rollout(session: Session, scene: Scene, states: list[UpdateState]) -> Rollout:
    """Add a running rollout whose first wave is the first bot and whose second wave are the others."""
    row = factories.rollout(
        session,
        session.get_one(Release, scene.new),
        state=RolloutState.RUNNING,
        started_at=utcnow() - timedelta(minutes=4),
    )
    for number, (bot_id, state) in enumerate(zip(scene.bots, states, strict=False)):
        session.add(_build_update(row, bot_id, state, wave=1 if number == 0 else 2))
    session.flush()
    return row


def _build_update(row: Rollout, bot_id: str, state: UpdateState, wave: int) -> BotUpdate:
    began = utcnow() - timedelta(minutes=3)
    update = BotUpdate(rollout_id=row.id, bot_id=bot_id, wave=wave, state=state)
    if state is UpdateState.PENDING:
        return update
    update.attempt, update.started_at = 1, began
    moments = [(began + timedelta(seconds=4 * number)).isoformat() for number in range(8)]
    names = ["claim", "preflight", "pull", "capture", "precreate", "stop", "snapshot"]
    update.timings = {name: [moments[number], moments[number + 1]] for number, name in enumerate(names)}
    if state is UpdateState.RUNNING:
        update.timings = {**update.timings, "health": [moments[7]]}
        return update
    update.stopped_at, update.answering_at = began + timedelta(seconds=20), began + timedelta(seconds=33)
    update.ended_at = began + timedelta(seconds=35)
    if state is not UpdateState.UPDATED:
        update.error = "The new container answered 503 for 120 s."
        update.log_tail = "starting\nmigration 7 failed: no such column\n"
    return update

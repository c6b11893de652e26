"""How long a bot is down while it is updated, by how much data it has."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.bots.adopt import adopt
from daemon.registry.client import RegistryClient
from daemon.registry.poller import Poller
from daemon.rollout import orchestrator
from daemon.update.sequence import update_bot
from demo.bench.place import BenchEnvironment
from demo.bench.tables import Table
from demo.bench.volumes import SIZES, fill
from demo.images import BOT_REPOSITORY, build_reference_bot
from demo.seed import start_by_hand, write_note
from demo.versions import FIRST, SECOND
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    Node,
    Org,
    Step,
    StrategyName,
    UpdateState,
    User,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.services.releases import polling, releases
from portal.services.rollouts import rollouts, selection, timings
from portal.settings import Settings

_NODE = "bench"
_ORG = "bench"


def measure(place: BenchEnvironment) -> Table:
    """Update bots with little and much data from one good release to the next."""
    table = Table(
        "Downtime of a bot's update",
        ("data", "update", "down", "stop", "snapshot", "start", "snapshot", "start"),
        note="Start ends with the first good answer, asked for once a second. Percentages are of the downtime.",
    )
    with place.new_database() as database:
        _found(database, place)
        table.rows.extend(_row(place, database, megabytes) for megabytes in SIZES)
    return table


def _found(database: Database, place: BenchEnvironment) -> None:
    with database.transaction() as session:
        owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
        session.add(owner)
        session.flush()
        session.add(Org(slug=_ORG, name="Bench", owner_id=owner.id))
        session.add(Node(name=_NODE, docker_url=place.docker_url, snapshot_dir=str(place.folder / "snapshots")))


def _row(place: BenchEnvironment, database: Database, megabytes: int) -> tuple[str, ...]:
    update = _update(place, database, megabytes)
    if update.state is not UpdateState.UPDATED or update.stopped_at is None or update.answering_at is None:
        raise RuntimeError(f"the update of a bot with {megabytes} MB ended as {update.state}: {update.error}")
    took = {step.name: step.took or timedelta() for step in timings.list_step_durations(update)}
    down = update.answering_at - update.stopped_at
    starting = update.answering_at - datetime.fromisoformat(update.timings[Step.START][0])
    whole = sum(took.values(), timedelta())
    parts = (whole, down, took[Step.STOP], took[Step.SNAPSHOT], starting)
    shares = (took[Step.SNAPSHOT] / down, starting / down)
    return (
        f"{megabytes} MB",
        *(f"{part / timedelta(seconds=1):.1f} s" for part in parts),
        *(f"{share:.0%}" for share in shares),
    )


def _update(place: BenchEnvironment, database: Database, megabytes: int) -> BotUpdate:
    """Let a bot with that much data go through everything an update is."""
    name = tag = f"bot-{megabytes}"
    image = f"{place.registry}/{BOT_REPOSITORY}:{tag}"
    build_reference_bot(place.engine, place.registry, FIRST, tag, {})
    write_note(start_by_hand(place.engine, image, name, {}), "a note")
    fill(place.engine, f"{name}-data", megabytes)
    adopt(database, place.settings, name, node=_NODE, org=_ORG)
    build_reference_bot(place.engine, place.registry, SECOND, tag, {})
    _poll(database, place.settings, image)
    with database.transaction() as session:
        bot = session.scalars(sa.select(Bot).where(Bot.image == image)).one()
        _start(session, place.settings, bot)
    [due] = orchestrator.tick(database, utcnow())
    update_bot(database, place.settings, due.update_id)
    place.engine.remove_container(name, force=True)
    for volume in (f"{name}-data", f"{name}-files"):
        place.engine.remove_volume(volume)
    with database.reading() as session:
        return session.get_one(BotUpdate, due.update_id)


def _poll(database: Database, settings: Settings, image: str) -> None:
    with database.transaction() as session:
        polling.check_now(session, image, utcnow())
    Poller(database, RegistryClient(), Allowlist.parse(settings.fleet_image_allowlist)).poll(image, utcnow())


def _start(session: Session, settings: Settings, bot: Bot) -> None:
    rollout_request = selection.RolloutRequest(
        release=releases.map_targets(session)[bot.image],
        strategy=StrategyName.SINGLE_BOT,
        audience=Audience.NAMED,
        bots=[bot],
        ignore_windows=True,
    )
    rollouts.start_rollout(session, Allowlist.parse(settings.fleet_image_allowlist), rollout_request, actor=None)

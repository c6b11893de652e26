"""Benchmark of the downtime of an update by the size of the data. Used by `demo.bench.__main__`."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.bots.adopt import adopt
from daemon.registry.client import RegistryClient
from daemon.registry.poller import Poller
from daemon.rollout import orchestrator
from daemon.update.sequence import update_bot
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table
from demo.bench.volumes import SIZES, fill
from demo.images import BOT_REPOSITORY, build_reference_bot
from demo.seed import start_container, write_note
from demo.versions import FIRST, SECOND
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    Node,
    Org,
    Step,
    UpdateState,
    User,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.releases import polling, releases
from portal.services.rollouts import rollouts, selection, timings
from portal.settings import Settings

NODE = "bench"
ORG = "bench"


def measure(environment: BenchEnvironment) -> Table:
    """Measure updates of bots with different amounts of data."""
    table = Table(
        "Downtime of a bot's update",
        ("data", "update", "down", "stop", "snapshot", "start", "snapshot", "start"),
        note="Start ends with the first healthy answer, probed once per second. Percentages are of the downtime.",
    )
    with environment.new_database() as database:
        create_org_and_node(database, environment)
        table.rows.extend(_measure_size(environment, database, megabytes) for megabytes in SIZES)
    return table


def create_org_and_node(database: Database, environment: BenchEnvironment) -> None:
    """Create the organization and the node of the measured bots."""
    with database.transaction() as session:
        owner = User(email="owner@bench.example", email_normalized="owner@bench.example", name="Owner")
        session.add(owner)
        session.flush()
        session.add(Org(slug=ORG, name="Bench", owner_id=owner.id))
        session.add(
            Node(name=NODE, docker_url=environment.docker_url, snapshot_dir=str(environment.folder / "snapshots"))
        )


def _measure_size(environment: BenchEnvironment, database: Database, megabytes: int) -> tuple[str, ...]:
    update = _update_bot(environment, database, megabytes)
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


def _update_bot(environment: BenchEnvironment, database: Database, megabytes: int) -> BotUpdate:
    """Create a bot with this much data, update it and return the ended update."""
    name = tag = f"bot-{megabytes}"
    image = f"{environment.registry}/{BOT_REPOSITORY}:{tag}"
    build_reference_bot(environment.engine, environment.registry, FIRST, tag, {})
    write_note(start_container(environment.engine, image, name, {}), "a note")
    fill(environment.engine, f"{name}-data", megabytes)
    adopt(database, environment.settings, name, node=NODE, org=ORG)
    build_reference_bot(environment.engine, environment.registry, SECOND, tag, {})
    poll(database, environment.settings, image)
    with database.transaction() as session:
        bot = session.scalars(sa.select(Bot).where(Bot.image == image)).one()
        start_rollout(session, environment.settings, bot)
    [due] = orchestrator.tick(database, utcnow(), environment.settings.health_check_timeout)
    update_bot(database, environment.settings, due.update_id)
    environment.engine.remove_container(name, force=True)
    for volume in (f"{name}-data", f"{name}-files"):
        environment.engine.remove_volume(volume)
    with database.reading() as session:
        return session.get_one(BotUpdate, due.update_id)


def poll(database: Database, settings: Settings, image: str) -> None:
    """Detect the newest release of an image."""
    with database.transaction() as session:
        polling.check_now(session, image, utcnow())
    Poller(database, RegistryClient(), Allowlist.parse(settings.fleet_image_allowlist)).poll(image, utcnow())


def start_rollout(session: Session, settings: Settings, bot: Bot) -> None:
    """Start a rollout of the newest release to one bot."""
    rollout_request = selection.RolloutRequest(
        release=releases.map_targets(session)[bot.image],
        strategy=StrategyName.SINGLE_BOT,
        audience=Audience.NAMED,
        bots=[bot],
        ignore_windows=True,
    )
    rollouts.start_rollout(
        session, Allowlist.parse(settings.fleet_image_allowlist), rollout_request, utcnow(), actor=None
    )

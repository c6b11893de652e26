"""Updates of single bots: start a bot, detect its next release, update it. Used by benchmarks of updates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.bots.adopt import adopt
from daemon.registry.client import RegistryClient
from daemon.registry.poller import Poller
from daemon.rollout import orchestrator
from daemon.update.sequence import update_bot
from demo.bench.environment import BenchEnvironment
from demo.images import BOT_REPOSITORY, build_reference_bot
from demo.seed import start_container, write_note
from demo.versions import FIRST, BotVersion
from portal.database import Database
from portal.models import (
    Audience,
    Bot,
    BotUpdate,
    Node,
    Org,
    User,
    utcnow,
)
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.releases import polling, releases
from portal.services.rollouts import rollouts, selection
from portal.settings import Settings

NODE = "bench"
ORG = "bench"


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


def start_bot(environment: BenchEnvironment, name: str) -> str:
    """Start a bot with two volumes and a note, and return the reference of its image."""
    image = f"{environment.registry}/{BOT_REPOSITORY}:{name}"
    build_reference_bot(environment.engine, environment.registry, FIRST, name, {})
    write_note(start_container(environment.engine, image, name, {}), "a note")
    return image


def update(
    environment: BenchEnvironment,
    database: Database,
    name: str,
    version: BotVersion,
    during: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> BotUpdate:
    """Adopt a bot that `start_bot` started, update it to a new release and return the ended update.

    Args:
        environment: the environment.
        database: where the organization and the node are.
        name: name of the bot.
        version: the new release.
        during: what happens beside the update.
    """
    image = f"{environment.registry}/{BOT_REPOSITORY}:{name}"
    adopt(database, environment.settings, name, node=NODE, org=ORG)
    build_reference_bot(environment.engine, environment.registry, version, name, {})
    poll(database, environment.settings, image)
    with database.transaction() as session:
        bot = session.scalars(sa.select(Bot).where(Bot.image == image)).one()
        start_rollout(session, environment.settings, bot)
    [due] = orchestrator.tick(database, utcnow(), environment.settings.health_check_timeout)
    with during():
        update_bot(database, environment.settings, due.update_id)
    with database.reading() as session:
        return session.get_one(BotUpdate, due.update_id)


def remove_bot(environment: BenchEnvironment, name: str) -> None:
    """Remove the container and the volumes of a bot."""
    environment.engine.remove_container(name, force=True)
    for volume in (f"{name}-data", f"{name}-files"):
        environment.engine.remove_volume(volume)


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

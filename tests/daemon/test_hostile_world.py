"""All processes under attack: hostile registries, bots, recipients of email and web clients, all at once.

Well-behaved polls, emails, sign-ins, health checks and updates are completed in the meantime, and nothing is lost.
The test prints how long they take with and without the attack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from demo.versions import CRASHING_LOUDLY, FIRST, SECOND
from portal.database import Database
from portal.models import (
    Bot,
    BotState,
    BotUpdate,
    Event,
    EventTag,
    MailState,
    Node,
    OutgoingMail,
    PolledImage,
    Release,
    UpdateState,
)
from tests.daemon.attacked_installation import ALONE, ATTACKED, NODE, WAIT_SECONDS, World, running_processes
from tests.daemon.hostile import (
    BAD_HEALTH,
    GOOD_HEALTH,
    LIES,
    SLOW_EXCHANGES,
    SlowClients,
    hostile_server,
    lie,
    serve_health,
)
from tests.daemon.processes import wait_until
from tests.daemon.registry.scripted import scripted_server
from tests.support.mail import running_mailbox
from tests.support.site import NOTE, Site, wait_until_answering

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.every_database]

BAD_RECIPIENTS = ("endless-1@bad.test", "odd-1@bad.test", "slow-1@bad.test", "refused-1@bad.test")
SLOW_CLIENTS = 200
SLOW_REGISTRIES = ("slow", "slower")
"""As many as there are processes that poll."""
ROUNDS = 3
MAX_TEXT = 10_000


@dataclass
class RealBots:
    """Two bots in containers, with data: one gets a good release, the other one a release that crashes."""

    updated: Site
    crashed: Site

    def are_running(self) -> bool:
        """Return whether both bots run and no update of them is open."""
        sites = (self.updated, self.crashed)
        return all(site.bot().state is BotState.RUNNING and is_updated(site) for site in sites)


@pytest.fixture
def real_bots(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[RealBots]:
    """Start the real bots on one node."""
    bots = RealBots(empty_site, replace(empty_site))
    for site in (bots.updated, bots.crashed):
        site.add_bot(FIRST, docker_url, tmp_path)
        wait_until_answering(site)
        site.add_note()
    with empty_site.database.transaction() as session:
        bot, other = (session.get_one(Bot, site.bot_id) for site in (bots.crashed, bots.updated))
        obsolete, bot.node = bot.node, other.node
        session.flush()
        session.delete(obsolete)
    yield bots
    bots.crashed.remove()


@pytest.fixture
def world(database: Database, real_bots: RealBots, registry: str, tmp_path: Path) -> Iterator[World]:
    """Run all processes with all peers. The hostile ones wait until a row of the database names them."""
    world = World(database)
    with ExitStack() as stack:
        world.engine_url = f"tcp://{stack.enter_context(scripted_server(world.answer_engine_call)).address}"
        world.registries = {
            "good": stack.enter_context(scripted_server(world.answer_poll)).address,
            "lying": stack.enter_context(scripted_server(lie)).address,
            **{name: stack.enter_context(hostile_server(world.answer_slow_poll)) for name in SLOW_REGISTRIES},
        }
        for name, script in {**BAD_HEALTH, "good": GOOD_HEALTH}.items():
            world.containers[name] = stack.enter_context(hostile_server(serve_health(script))).rpartition(":")[2]
        stack.enter_context(running_mailbox(world.mailbox))
        world.push()
        world.add_account()
        world.add_bot("good", f"{world.registries['good']}/acme/bot")
        world.environment = {
            "FLEET_IMAGE_ALLOWLIST": ",".join([*world.registries.values(), f"{registry}/flotilla"]),
            "REGISTRY_CONFIG": str(tmp_path / "none.json"),
            "SNAPSHOT_IMAGE": real_bots.updated.settings.snapshot_image,
            "HEALTH_TIMEOUT_SECONDS": "60",
        }
        with running_processes(world, tmp_path):
            yield world
            stack.close()  # jobs that wait for a hostile peer end now


@contextmanager
def attack(world: World) -> Iterator[None]:
    """Add hostile bots, images, recipients and clients, and wait until each kind has begun."""
    for name in BAD_HEALTH:
        world.add_bot(name, f"{world.registries['lying']}/{LIES[0]}")
    for repository in LIES:
        world.add_bot(f"lying-{repository}", f"{world.registries['lying']}/{repository}")
    for name in SLOW_REGISTRIES:
        for repository in SLOW_EXCHANGES:
            world.add_bot(f"{name}-{repository}", f"{world.registries[name]}/{repository}")
    for recipient in BAD_RECIPIENTS:
        world.queue_email(recipient)
    with SlowClients(world.port, SLOW_CLIENTS):
        wait_until(lambda: world.slow_polls > 0, "the slow registry is polled", WAIT_SECONDS)
        wait_until(lambda: world.mailbox.recipients >= set(BAD_RECIPIENTS), "emails to all are tried", WAIT_SECONDS)
        yield


def test_well_behaved_work_goes_on_under_attack(
    world: World, real_bots: RealBots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.measure(ALONE)
    with attack(world), world.running_doctor() as wait_for_doctor:
        world.start_update(real_bots.updated, SECOND)
        world.start_update(real_bots.crashed, CRASHING_LOUDLY)
        for _ in range(ROUNDS):
            world.measure(ATTACKED)
        wait_until(lambda: is_each_bot_judged(world), "each bot is judged", WAIT_SECONDS)
        wait_until(real_bots.are_running, "the updates of the real bots end", WAIT_SECONDS)
        passed = wait_for_doctor()
        with capsys.disabled():
            world.print_durations()

    check_updates(world, real_bots)
    check_doctor(world, real_bots, passed)
    check_nothing_is_lost(world, real_bots)
    logs = [(tmp_path / "logs" / f"{name}.log").read_text() for name in ("worker", "scheduler", "web")]
    assert "Traceback" not in "".join(logs)
    assert "".join(logs).count("failed in step health: Health check failed") == 1
    assert "ended with status" not in capsys.readouterr().out  # printed when a process is started again


def check_updates(world: World, real_bots: RealBots) -> None:
    """Check that one real bot runs the good release and the other one its old container, each with its data."""
    states = {update.bot_id: update for update in world.load(BotUpdate)}
    good, crashed = states[real_bots.updated.bot_id], states[real_bots.crashed.bot_id]
    assert good.state is UpdateState.UPDATED
    assert real_bots.updated.bot().current_digest == real_bots.updated.images.digest(SECOND)
    assert crashed.state is UpdateState.ROLLED_BACK
    assert "exited with status 1" in str(crashed.error)
    assert str(crashed.log_tail).endswith("x crashed:  \ufffd\ufffd\ufffd")
    assert real_bots.crashed.inspect()["Id"] == real_bots.crashed.container
    for site in (real_bots.updated, real_bots.crashed):
        assert site.notes() == [NOTE]
    quarantined = {release.digest for release in world.load(Release) if release.quarantined_at is not None}
    assert quarantined == {real_bots.crashed.images.digest(CRASHING_LOUDLY)}


def check_doctor(world: World, real_bots: RealBots, passed: dict[str, bool]) -> None:
    """Check that `flotilla doctor` found what is hostile, and that everything else works."""
    failed = {f"registry {world.registries[name]}" for name in ("lying", *SLOW_REGISTRIES)} | {f"engine {NODE}"}
    # The tag that the real bots follow was not pushed.
    failed.add(f"registry {real_bots.updated.images.repository.partition('/')[0]}")
    assert {subject for subject, is_good in passed.items() if not is_good} == failed
    expected = {"database", "redis", "workers", "scheduler", "mail", f"registry {world.registries['good']}"}
    expected |= {f"engine {node.name}" for node in world.load(Node) if node.name != NODE}
    assert {subject for subject, is_good in passed.items() if is_good} >= expected


def check_nothing_is_lost(world: World, real_bots: RealBots) -> None:
    """Check states, emails, releases and stored texts."""
    running = sorted(bot.name for bot in world.load(Bot) if bot.state is BotState.RUNNING)
    assert running == ["Paperclip", "Paperclip", "good"]
    assert {bot.name for bot in world.load(Bot) if bot.state is BotState.UNHEALTHY} == set(BAD_HEALTH)
    assert [world.count_received()[recipient] for recipient in world.recipients] == [1] * (1 + ROUNDS)
    sent = {mail.to for mail in world.load(OutgoingMail) if mail.state is MailState.SENT}
    assert sent == set(world.recipients)
    repositories = {release.repository for release in world.load(Release)}
    assert repositories == {f"{world.registries['good']}/acme/bot", real_bots.updated.images.repository}
    assert [text for text in collect_texts(world) if "\0" in text or len(text) > MAX_TEXT] == []
    others = {bot.id for bot in world.load(Bot) if bot.name in world.containers}
    changes = [event.bot_id for event in world.load(Event) if event.tag == EventTag.BOT_STATE_CHANGED]
    assert max(changes.count(bot_id) for bot_id in others) <= 2


def is_updated(site: Site) -> bool:
    """Return whether the update of the bot has ended and its leftovers are removed."""
    with site.database.reading() as session:
        update = session.scalars(sa.select(BotUpdate).filter_by(bot_id=site.bot_id)).one()
        return update.cleaned_at is not None


def is_each_bot_judged(world: World) -> bool:
    """Return whether the health of each bot with a server was checked."""
    return all(bot.checked_at for bot in world.load(Bot) if bot.name in world.containers)


def collect_texts(world: World) -> list[str]:
    """Return every text that peers have influenced."""
    texts = [
        *(bot.state_detail for bot in world.load(Bot)),
        *(image.last_error for image in world.load(PolledImage)),
        *(mail.last_error for mail in world.load(OutgoingMail)),
        *(text for update in world.load(BotUpdate) for text in (update.error, update.log_tail)),
        *(node.last_error for node in world.load(Node)),
        *(json.dumps(event.data, ensure_ascii=False) for event in world.load(Event)),
    ]
    return [text for text in texts if text]

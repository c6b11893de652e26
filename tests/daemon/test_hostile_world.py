"""All processes under attack: hostile registries, bots, recipients of email and web clients, all at once.

Well-behaved polls, emails, sign-ins and health checks are completed in the meantime, and nothing is lost. The test
prints how long they take with and without the attack.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import sqlalchemy as sa

from demo.platform import Platform
from demo.processes import free_port
from portal.database import Database
from portal.models import (
    Base,
    Bot,
    BotState,
    Event,
    EventTag,
    MailState,
    Node,
    Org,
    OutgoingMail,
    PolledImage,
    Release,
    User,
)
from portal.password_hashing import hash_password
from portal.services.mail import outbox
from portal.settings import Settings
from tests import factories
from tests.daemon.hostile import (
    BAD_HEALTH,
    GOOD_HEALTH,
    LIES,
    SLOW_EXCHANGES,
    HostileMailbox,
    Peer,
    SlowClients,
    digest_of,
    hostile_server,
    lie,
    manifest_reply,
    serve_health,
    serve_slowly,
)
from tests.daemon.processes import wait_until
from tests.daemon.registry.scripted import Reply, Request, scripted_server
from tests.support.mail import running_mailbox

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.every_database]

PASSWORD = "correct horse battery staple"
EMAIL = "ada@acme.test"
BAD_RECIPIENTS = ("endless-1@bad.test", "odd-1@bad.test", "slow-1@bad.test", "refused-1@bad.test")
SLOW_CLIENTS = 200
ROUNDS = 3
ALONE, ATTACKED = "alone", "under attack"
WAIT_SECONDS = 120.0
MAX_LOG = 20_000
MAX_TEXT = 10_000

Row = TypeVar("Row", bound=Base)


@dataclass
class World:
    """The running installation with all its peers, and the durations that well-behaved users see.

    Attributes:
        database: of the installation.
        port: of the portal.
        mailbox: the mail server.
        registries: addresses of the registries `good`, `slow` and `lying`.
        manifest: what the tag in the good registry points at.
        engine_url: of the node, whose bots are servers of this test.
        containers: host ports of the bots by the ids of their containers.
        recipients: to whom emails were queued that must arrive.
        slow_polls: how many requests the slow registry received.
        seconds: durations by what was measured and by the phase of the test.
    """

    database: Database
    port: int = field(default_factory=free_port)
    mailbox: HostileMailbox = field(default_factory=HostileMailbox)
    registries: dict[str, str] = field(default_factory=dict)
    manifest: bytes = b""
    engine_url: str = ""
    containers: dict[str, str] = field(default_factory=dict)
    recipients: list[str] = field(default_factory=list)
    slow_polls: int = 0
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def answer_poll(self, _request: Request) -> Reply:
        """Answer a request to the good registry."""
        return manifest_reply(self.manifest)

    def answer_slow_poll(self, peer: Peer) -> None:
        """Answer a request to the slow registry."""
        self.slow_polls += 1
        serve_slowly(peer)

    def answer_engine_call(self, request: Request) -> Reply:
        """Answer a call of the engine. Pulls fail, lists are empty, and the bots with a server run."""
        parts = request.path.split("/")
        if request.method != "GET":
            return Reply(500, body=b'{"message": "no space left"}')
        answer: Any = {"ApiVersion": "1.44"} if parts[-1] == "version" else []
        if "containers" in parts[:-2]:
            if parts[-2] not in self.containers:
                return Reply(404, body=b'{"message": "no such container"}')
            answer = {
                "State": {"Running": True, "Status": "running", "ExitCode": 0},
                "HostConfig": {"NetworkMode": "bridge"},
                "NetworkSettings": {"Ports": {"3100/tcp": [{"HostPort": self.containers[parts[-2]]}]}},
            }
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def push(self) -> str:
        """Push a new release to the good registry and return its digest."""
        layers = [f"layer {time.monotonic()}"]
        self.manifest = json.dumps({"schemaVersion": 2, "config": {}, "layers": layers}).encode()
        return digest_of(self.manifest)

    def add_account(self) -> None:
        """Add an organization and its owner, who signs in and receives emails, and the node."""
        with self.database.transaction() as session:
            owner = factories.user(session, "ada", email=EMAIL, password_hash=hash_password(PASSWORD))
            factories.org(session, owner)
            factories.node(session, "north", docker_url=self.engine_url)

    def add_bot(self, name: str, image: str) -> None:
        """Add a bot on the node, whose container has the name of the bot as its id."""
        with self.database.transaction() as session:
            org, node = session.scalars(sa.select(Org)).one(), session.scalars(sa.select(Node)).one()
            fields = {"container_id": name, "state": BotState.UNKNOWN, "image": f"{image}:stable"}
            factories.bot(session, org, node, name=name, subdomain=name, **fields)

    def queue_email(self, to: str) -> None:
        """Queue an email."""
        with self.database.transaction() as session:
            context = {"user_id": session.scalars(sa.select(User.id)).one()}
            outbox.queue_mail(session, to=to, template="password_changed", dedupe_key=to, context=context)

    def sign_in(self) -> None:
        """Sign in as a browser does, and read a page that requires it."""
        home = f"http://127.0.0.1:{self.port}"
        with requests.Session() as browser:
            page = browser.get(f"{home}/login", timeout=60).text
            token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
            form = {"email": EMAIL, "password": PASSWORD, "csrf_token": token}
            browser.post(f"{home}/login", form, headers={"Origin": home}, timeout=60).raise_for_status()
            assert EMAIL in browser.get(f"{home}/account", timeout=60).text

    def measure(self, phase: str) -> None:
        """Push a release, queue an email and sign in at the same time, and record how long each takes."""
        digest, recipient = self.push(), f"good-{len(self.recipients)}@acme.test"
        started = time.monotonic()
        self.recipients.append(recipient)
        self.queue_email(recipient)
        self.sign_in()
        self.seconds["sign-in"][phase].append(time.monotonic() - started)
        waiting: dict[str, Callable[[], bool]] = {
            "poll": lambda: self.has_release(digest),
            "email": lambda: self.count_received()[recipient] > 0,
        }

        def record_done() -> bool:
            for what in [what for what, is_done in waiting.items() if is_done()]:
                self.seconds[what][phase].append(time.monotonic() - started)
                del waiting[what]
            return not waiting

        wait_until(record_done, f"the release and the email arrive ({phase}): {waiting.keys()}", WAIT_SECONDS)

    def has_release(self, digest: str) -> bool:
        """Return whether a poll has found this digest."""
        with self.database.reading() as session:
            return session.scalar(sa.select(sa.exists().where(Release.digest == digest))) is True

    def count_received(self) -> Counter[str]:
        """Return how many emails arrived, by recipient."""
        return Counter(str(message["X-Recipients"]) for message in self.mailbox.messages)

    def load(self, row: type[Row]) -> list[Row]:
        """Load all rows of a table."""
        with self.database.reading() as session:
            return list(session.scalars(sa.select(row)))

    def print_durations(self) -> None:
        """Print the median durations. They depend on the machine, so nothing is asserted about them."""
        for what, seconds in self.seconds.items():
            alone, attacked = (statistics.median(seconds[phase]) for phase in (ALONE, ATTACKED))
            print(f"{what}: {alone:.2f} s alone, {attacked:.2f} s under attack")  # noqa: T201 - for the reader of a run


@pytest.fixture
def world(settings: Settings, database: Database, tmp_path: Path) -> Iterator[World]:
    """Run all processes with all peers. The hostile ones wait until a row of the database names them."""
    world = World(database)
    with ExitStack() as stack:
        world.engine_url = f"tcp://{stack.enter_context(scripted_server(world.answer_engine_call)).address}"
        world.registries = {
            "good": stack.enter_context(scripted_server(world.answer_poll)).address,
            "lying": stack.enter_context(scripted_server(lie)).address,
            "slow": stack.enter_context(hostile_server(world.answer_slow_poll)),
        }
        for name, script in {**BAD_HEALTH, "good": GOOD_HEALTH}.items():
            world.containers[name] = stack.enter_context(hostile_server(serve_health(script))).rpartition(":")[2]
        stack.enter_context(running_mailbox(world.mailbox))
        world.push()
        world.add_account()
        world.add_bot("good", f"{world.registries['good']}/acme/bot")
        with running_processes(world, tmp_path):
            yield world
            stack.close()  # jobs that wait for a hostile peer end now


@contextmanager
def running_processes(world: World, folder: Path) -> Iterator[None]:
    """Run the processes of the Procfile, and check that none of them ended or logged an error."""
    home = f"http://127.0.0.1:{world.port}"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": str(world.port),
        "BASE_URL": home,
        "FLEET_IMAGE_ALLOWLIST": ",".join(world.registries.values()),
        "REGISTRY_CONFIG": str(folder / "none.json"),
        "POLL_SECONDS": "1",
        "MAIL_SERVER": world.mailbox.host,
        "MAIL_PORT": str(world.mailbox.port),
    }
    platform = Platform({**os.environ, **environment}, folder / "logs")
    platform.start()
    try:
        wait_until(lambda: is_answering(f"{home}/healthz"), "the portal answers")
        yield
    finally:
        platform.stop()
        for log in sorted((folder / "logs").iterdir()):
            print(f"--- {log.name}\n{log.read_text()[-MAX_LOG:]}")  # noqa: T201 - shown when the test fails


def is_answering(url: str) -> bool:
    """Return whether the portal answers."""
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False


@contextmanager
def attack(world: World) -> Iterator[None]:
    """Add hostile bots, images, recipients and clients, and wait until each kind has begun."""
    for name in BAD_HEALTH:
        world.add_bot(name, f"{world.registries['lying']}/{LIES[0]}")
    for repository in LIES:
        world.add_bot(f"lying-{repository}", f"{world.registries['lying']}/{repository}")
    for repository in SLOW_EXCHANGES:
        world.add_bot(f"slow-{repository}", f"{world.registries['slow']}/{repository}")
    for recipient in BAD_RECIPIENTS:
        world.queue_email(recipient)
    with SlowClients(world.port, SLOW_CLIENTS):
        wait_until(lambda: world.slow_polls > 0, "the slow registry is polled", WAIT_SECONDS)
        wait_until(lambda: world.mailbox.recipients >= set(BAD_RECIPIENTS), "emails to all are tried", WAIT_SECONDS)
        yield


def test_well_behaved_work_goes_on_under_attack(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(ROUNDS):
        world.measure(ALONE)
    with attack(world):
        for _ in range(ROUNDS):
            world.measure(ATTACKED)
        with capsys.disabled():
            world.print_durations()
        wait_until(lambda: is_each_bot_judged(world), "each bot is judged", WAIT_SECONDS)

    assert {bot.name for bot in world.load(Bot) if bot.state is BotState.RUNNING} == {"good"}
    assert {bot.name for bot in world.load(Bot) if bot.state is BotState.UNHEALTHY} == set(BAD_HEALTH)
    assert [world.count_received()[recipient] for recipient in world.recipients] == [1] * (2 * ROUNDS)
    sent = {mail.to for mail in world.load(OutgoingMail) if mail.state is MailState.SENT}
    assert sent == set(world.recipients)
    repositories = {release.repository for release in world.load(Release)}
    assert repositories == {f"{world.registries['good']}/acme/bot"}
    assert [text for text in collect_texts(world) if "\0" in text or len(text) > MAX_TEXT] == []
    changes = Counter(event.bot_id for event in world.load(Event) if event.tag == EventTag.BOT_STATE_CHANGED)
    assert max(changes.values()) <= 2

    logs = [(tmp_path / "logs" / f"{name}.log").read_text() for name in ("worker", "scheduler", "web")]
    assert "Traceback" not in "".join(logs)
    assert "ended with status" not in capsys.readouterr().out  # printed when a process is started again


def is_each_bot_judged(world: World) -> bool:
    """Return whether the health of each bot with a server was checked."""
    return all(bot.checked_at for bot in world.load(Bot) if bot.name in world.containers)


def collect_texts(world: World) -> list[str]:
    """Return every text that peers have influenced."""
    texts = [
        *(bot.state_detail for bot in world.load(Bot)),
        *(image.last_error for image in world.load(PolledImage)),
        *(mail.last_error for mail in world.load(OutgoingMail)),
        *(node.last_error for node in world.load(Node)),
        *(json.dumps(event.data, ensure_ascii=False) for event in world.load(Event)),
    ]
    return [text for text in texts if text]

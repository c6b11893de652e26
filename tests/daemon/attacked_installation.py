"""The running installation of the hostile world test: its processes, peers, users and operators."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests
import sqlalchemy as sa

from demo.platform import Platform
from demo.processes import free_port
from demo.versions import BotVersion
from portal.database import Database
from portal.models import Audience, Base, Bot, BotState, Node, Org, Release, User, utcnow
from portal.password_hashing import hash_password
from portal.rules.allowlist import Allowlist
from portal.rules.strategies import StrategyName
from portal.services.mail import outbox
from portal.services.rollouts import rollouts
from portal.services.rollouts.selection import RolloutRequest
from tests import factories
from tests.daemon.hostile import HostileMailbox, Peer, digest_of, manifest_reply, serve_slowly
from tests.daemon.processes import wait_until
from tests.daemon.registry.scripted import Reply, Request
from tests.support.site import Site

PASSWORD = "correct horse battery staple"
EMAIL = "ada@acme.test"
ORG, NODE = "acme", "north"
ALONE, ATTACKED = "alone", "under attack"
WAIT_SECONDS = 120.0
MAX_LOG = 20_000

Row = TypeVar("Row", bound=Base)


@dataclass
class World:
    """The running installation with all its peers, and the durations that well-behaved users see.

    Attributes:
        database: of the installation.
        environment: settings of its processes that this class does not know.
        port: of the portal.
        mailbox: the mail server.
        registries: addresses of the registries `good`, `lying`, `slow` and `slower`.
        manifest: what the tag in the good registry points at.
        engine_url: of the node, whose bots are servers of this test.
        containers: host ports of the bots by the ids of their containers.
        recipients: to whom emails were queued that must arrive.
        slow_polls: how many requests the slow registries received.
        seconds: durations by what was measured and by the phase of the test.
    """

    database: Database
    environment: dict[str, str] = field(default_factory=dict)
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
        """Answer a request to a slow registry."""
        self.slow_polls += 1
        serve_slowly(peer)

    def answer_engine_call(self, request: Request) -> Reply:
        """Answer a call of the engine. Pulls fail, lists are empty, and the bots with a server run."""
        parts = request.path.split("/")
        if request.method != "GET":
            return Reply(500, body=b'{"message": "no space left"}')
        answer: Any = {"ApiVersion": "1.44", "Os": "linux", "Arch": "amd64"} if parts[-1] == "version" else []
        if "images" in parts:
            return Reply(404, body=b'{"message": "no such image"}')
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
            factories.org(session, owner, ORG)
            factories.node(session, NODE, docker_url=self.engine_url)

    def add_bot(self, name: str, image: str) -> None:
        """Add a bot on the node, whose container has the name of the bot as its id."""
        with self.database.transaction() as session:
            org = session.scalars(sa.select(Org).filter_by(slug=ORG)).one()
            node = session.scalars(sa.select(Node).filter_by(name=NODE)).one()
            fields = {"container_id": name, "state": BotState.UNKNOWN, "image": f"{image}:stable"}
            factories.bot(session, org, node, name=name, subdomain=name, **fields)

    def queue_email(self, to: str) -> None:
        """Queue an email."""
        with self.database.transaction() as session:
            context = {"user_id": session.scalars(sa.select(User.id).filter_by(email=EMAIL)).one()}
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

    def start_update(self, site: Site, version: BotVersion) -> None:
        """Add a release and start a rollout of it to a real bot, as an operator does."""
        wait_until(lambda: site.bot().state is BotState.RUNNING, "the real bot runs", WAIT_SECONDS)
        with self.database.transaction() as session:
            release = factories.release(
                session,
                repository=site.images.repository,
                image=f"{site.images.repository}:managed",
                digest=site.images.digest(version),
            )
            request = RolloutRequest(
                release=release,
                strategy=StrategyName.ROLLING_WAVE,
                audience=Audience.NAMED,
                bots=[session.get_one(Bot, site.bot_id)],
                ignore_windows=True,
            )
            allowlist = Allowlist.parse([release.repository])
            rollouts.start_rollout(session, allowlist, request, utcnow(), actor=None)

    @contextmanager
    def running_doctor(self) -> Iterator[Callable[[], dict[str, bool]]]:
        """Run `flotilla doctor`, and yield a function that waits for its end and returns which checks passed."""
        command = [sys.executable, "-m", "daemon.cli", "doctor"]
        with subprocess.Popen(command, env=self.processes_environment(), stdout=subprocess.PIPE, text=True) as doctor:

            def wait() -> dict[str, bool]:
                output, _ = doctor.communicate(timeout=WAIT_SECONDS)
                print(output)  # noqa: T201 - shown when the test fails
                lines = [line.split(": ")[0].split(None, 1) for line in output.splitlines()]
                return {subject: result == "ok" for result, subject in lines}

            try:
                yield wait
            finally:
                doctor.kill()

    def processes_environment(self) -> dict[str, str]:
        """Return the environment of all processes of the installation."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(self.port),
            "BASE_URL": f"http://127.0.0.1:{self.port}",
            "POLL_SECONDS": "1",
            "MAIL_SERVER": self.mailbox.host,
            "MAIL_PORT": str(self.mailbox.port),
            **self.environment,
        }

    def load(self, row: type[Row]) -> list[Row]:
        """Load all rows of a table."""
        with self.database.reading() as session:
            return list(session.scalars(sa.select(row)))

    def print_durations(self) -> None:
        """Print the median durations. They depend on the machine, so nothing is asserted about them."""
        for what, seconds in self.seconds.items():
            alone, attacked = (statistics.median(seconds[phase]) for phase in (ALONE, ATTACKED))
            print(f"{what}: {alone:.2f} s alone, {attacked:.2f} s under attack")  # noqa: T201 - for the reader of a run


@contextmanager
def running_processes(world: World, folder: Path) -> Iterator[None]:
    """Run the processes of the Procfile, and check that none of them ended or logged an error."""
    home = f"http://127.0.0.1:{world.port}"
    platform = Platform(world.processes_environment(), folder / "logs")
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

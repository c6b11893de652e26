"""Start, health and stop of the reference bot, in this process and as a process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.processes import free_port
from demo.reference_bot.behaviour import Behaviour, ReleaseInfo
from demo.reference_bot.configuration import Configuration
from demo.reference_bot.server import running_server
from portal.paths import ROOT
from tests.demo.reference_bot.local_bots import ALICE, BOB, SECRET, BotClient, identity, make_bot, provisioning

pytestmark = pytest.mark.requests

MIGRATING = (503, {"status": "migrating"})


def test_everything_answers_503_until_the_data_is_migrated(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0, secrets=(SECRET,)))
    with running_server(bot) as port:
        client = BotClient(port)
        for path in ("/health", "/", "/internal/provision/health", "/internal/members?companyId=c"):
            assert client.send("GET", path).result == MIGRATING
        assert client.internal("POST", "/provision", provisioning()).result == MIGRATING
        bot.migrate()
        assert client.send("GET", "/health").result == (200, {"status": "ok", "version": "1.0.0"})
        assert client.send("GET", "/internal/provision/health").status == 200


def test_health_tells_a_damaged_database(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0, secrets=(SECRET,)))
    with running_server(bot) as port:
        bot.migrate()
        (tmp_path / "data" / "bot.db").write_bytes(b"this was your data" * 100)
        expected = (503, {"status": "error", "reason": "file is not a database"})
        assert BotClient(port).send("GET", "/health").result == expected
        assert BotClient(port).send("GET", "/internal/provision/health").result == expected
        assert BotClient(port).internal("POST", "/provision", provisioning()).result == expected


def test_an_unhealthy_release_says_so(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0), ReleaseInfo("1", Behaviour.UNHEALTHY))
    with running_server(bot) as port:
        bot.migrate()
        assert BotClient(port).send("GET", "/health").status == 503


def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0, hosted=True, secrets=(SECRET,)))
    with running_server(bot) as port:
        bot.migrate()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.connect()
        used = connection.sock
        body = json.dumps(provisioning())
        for method, path, status in (
            ("POST", "/internal/provision", 201),
            ("GET", "/", 200),
            ("HEAD", "/", 200),
            ("GET", "/nowhere", 404),
            ("PUT", "/nowhere", 404),
        ):
            headers = {"Authorization": f"Bearer {SECRET}", **identity(ALICE)}
            connection.request(method, path, body if method == "POST" else b"", headers)
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, connection.sock) == (status, used)
        # The bot does not read this body, so it must not take it for the next request.
        connection.request("POST", "/internal/provision", b"GET / HTTP/1.1\r\n\r\n")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (401, "close")
        connection.close()


def test_a_client_that_is_refused_early_can_send_its_whole_body(tmp_path: Path) -> None:
    bot = make_bot(tmp_path, Configuration(port=0, secrets=(SECRET,)))
    with running_server(bot) as port, socket.socket() as connection:
        bot.migrate()
        # Without room for the body in buffers, sending fails if the bot closes the connection without reading.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"POST /internal/provision HTTP/1.1\r\nHost: bot\r\nContent-Length: 1000000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x" * 10_000)
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


@contextmanager
def running_process(root: Path, release: dict[str, object] | None = None, **environment: str) -> Iterator[BotProcess]:
    """Run the bot as a process, with `root` as the root of its file system."""
    for name in ("app", "data", "paperclip"):
        (root / name).mkdir(exist_ok=True)
    content = {"version": "1.0.0", "behaviour": "good", "start_seconds": 0, **(release or {})}
    (root / "app" / "behaviour.json").write_text(json.dumps(content))
    port = free_port()
    settings = {"PORT": str(port), "HOSTED_MODE": "1", "PROVISION_SECRET": SECRET, **environment}
    with subprocess.Popen(
        [sys.executable, "-m", "demo.reference_bot", str(root)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield BotProcess(process, BotClient(port))
        finally:
            process.kill()


class BotProcess:
    """A bot in a process."""

    def __init__(self, process: subprocess.Popen[str], client: BotClient) -> None:
        self._process = process
        self.client = client

    def wait_for_line(self, line: str) -> None:
        """Wait until the bot prints a line."""
        assert self._process.stdout
        for printed in self._process.stdout:
            if printed.startswith(line):
                return
        raise AssertionError("the bot has ended")

    def read_rest(self) -> str:
        """Return what the bot has printed since, after its end."""
        assert self._process.stdout
        return self._process.stdout.read()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self._process.send_signal(number)
        return self._process.wait(timeout=10)


@pytest.mark.processes
class TestProcess:
    def test_sigterm_ends_a_migration(self, tmp_path: Path) -> None:
        with running_process(tmp_path, {"behaviour": "migrating", "migration_seconds": 60}) as bot:
            bot.wait_for_line("listening")
            assert bot.client.send("GET", "/health").result == MIGRATING
            assert bot.stop() == 0

    def test_sigterm_lets_a_running_request_end(self, tmp_path: Path) -> None:
        with running_process(tmp_path) as bot:
            bot.wait_for_line("ready")
            bot.client.provision()
            with socket.create_connection(("127.0.0.1", bot.client.port), timeout=10) as connection:
                headers = "".join(f"{name}: {value}\r\n" for name, value in identity(ALICE).items())
                request = f"POST /notes HTTP/1.1\r\nHost: bot\r\n{headers}Content-Length: 9\r\n\r\n"
                # The bot confirms that it reads this request before it is stopped.
                connection.sendall(request.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").encode())
                assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
                stopping = threading.Thread(target=bot.stop)
                stopping.start()
                wait_until_refused(bot.client.port)
                connection.sendall(b"text=last")
                assert connection.recv(1000).startswith(b"HTTP/1.1 303 ")
                stopping.join()
        with running_process(tmp_path) as bot:
            bot.wait_for_line("ready")
            assert bot.client.visit("/notes", ALICE).json == {"notes": ["last"]}
            assert bot.stop() == 0

    def test_answered_changes_survive_sigkill(self, tmp_path: Path) -> None:
        for version in range(1, 6):
            with running_process(tmp_path) as bot:
                bot.wait_for_line("ready")
                company = bot.client.provision()
                if version % 2:
                    assert bot.client.add(company, BOB, "member", version=version)[0] == 200
                else:
                    assert bot.client.remove(company, BOB, version=version)[0] == 200
                assert bot.stop(signal.SIGKILL) == -signal.SIGKILL
        with running_process(tmp_path) as bot:
            bot.wait_for_line("ready")
            assert bot.client.roles(company) == {ALICE["id"]: "owner", BOB["id"]: "member"}
            assert bot.client.remove(company, BOB, version=4)[0] == 409

    def test_secrets_are_not_logged(self, tmp_path: Path) -> None:
        with running_process(tmp_path) as bot:
            bot.wait_for_line("ready")
            bot.client.provision(apiKey="sk-very-secret")
            bot.client.internal("POST", "/provision", provisioning(apiKey="sk-very-secret"), secret="sesame")
            assert bot.stop() == 0
            log = bot.read_rest()
        assert '"POST /internal/provision HTTP/1.1" 201' in log
        assert [secret for secret in (SECRET, "sesame", "sk-very-secret", ALICE["email"]) if secret in log] == []


def wait_until_refused(port: int) -> None:
    """Wait until nothing listens on a port."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # the listening socket was closed in this moment
            continue

"""`flotilla doctor` with servers that are slow, hang, or answer only when all of them have been reached."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from daemon import doctor
from portal.database import Database
from portal.models import Bot, BotState, PolledImage, utcnow
from portal.services.gateway import processes
from tests.daemon.conftest import Flotilla
from tests.daemon.rows import add_bot, add_node
from tests.support.slow_peers import FILLER, Answer, http_answer, slow_server

ConfigureMail = Callable[[str], None]


@pytest.fixture
def configure_mail(monkeypatch: pytest.MonkeyPatch) -> ConfigureMail:
    """Return a function that sets the mail server. Call it before the command reads the settings."""

    def configure(address: str) -> None:
        host, _, port = address.rpartition(":")
        for name, value in {"MAIL_SERVER": host, "MAIL_PORT": port, "MAIL_USE_TLS": "false"}.items():
            monkeypatch.setenv(name, value)

    return configure


def add_polled_image(database: Database, registry: str) -> None:
    with database.transaction() as session:
        session.add(PolledImage(image=f"{registry}/acme/bot:managed", next_poll_at=utcnow()))


def test_each_slow_server_is_reported_after_its_own_deadline(
    flotilla: Flotilla, database: Database, configure_mail: ConfigureMail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 0.5)
    monkeypatch.setattr(doctor, "ENGINE_SECONDS", 0.6)
    http = Answer(b"HTTP/1.1 200 OK\r\nX-Filler: ", FILLER)
    with (
        slow_server(lambda _: Answer(b"220-", FILLER), reads_first=False) as mail,
        slow_server(lambda _: http) as registry,
        slow_server(lambda _: http) as engine,
    ):
        configure_mail(mail)
        add_polled_image(database, registry)
        add_node(database, docker_url=f"tcp://{engine}")

        result = flotilla("doctor")

    assert result.exit_code == 1
    assert "FAILED  mail: no complete answer within 0.5 s" in result.output
    assert f"FAILED  registry {registry}: no complete answer within 0.5 s" in result.output
    assert "FAILED  engine one: no complete answer within 0.6 s" in result.output
    assert "ok      database" in result.output


def test_checks_run_side_by_side(flotilla: Flotilla, database: Database, configure_mail: ConfigureMail) -> None:
    """Each server answers only after the other has been reached, too."""
    both_reached = threading.Barrier(2)
    announced = http_answer(b"", f"Docker-Content-Digest: sha256:{'d' * 64}\r\nConnection: close\r\n")

    def answer_mail(received: bytes) -> Answer:
        if received == b"connected":
            both_reached.wait()
            return Answer(b"220 ready\r\n")
        return Answer(b"250 ok\r\n")

    def answer_registry(_: bytes) -> Answer:
        both_reached.wait()
        return Answer(announced)

    with slow_server(answer_mail, reads_first=False) as mail, slow_server(answer_registry) as registry:
        configure_mail(mail)
        add_polled_image(database, registry)

        output = flotilla("doctor").output
        both_reached.abort()

    assert "ok      mail" in output
    assert f"ok      registry {registry}" in output


def test_check_that_hangs_is_given_up(flotilla: Flotilla, monkeypatch: pytest.MonkeyPatch) -> None:
    resume = threading.Event()
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(doctor, "_MARGIN_SECONDS", 0.5)
    monkeypatch.setattr(doctor, "_check_disk", lambda _: str(resume.wait()))

    output = flotilla("doctor").output
    resume.set()

    assert "FAILED  disk: no result within 0.2 s" in output
    assert "redis" in output


def test_broken_check_does_not_stop_the_others(flotilla: Flotilla, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise RecursionError

    monkeypatch.setattr(doctor, "_check_mail", fail)

    output = flotilla("doctor").output

    assert "FAILED  mail: the check itself failed: RecursionError" in output
    assert "ok      database" in output


def test_a_missing_gateway_is_reported(
    flotilla: Flotilla, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTS_DOMAIN", "bots.example")
    assert "FAILED  gateway: not running" in flotilla("doctor").output
    with database.transaction() as session:
        processes.record_held(session, "gateway", {})
    assert "ok      gateway: 1 process running" in flotilla("doctor").output


def test_without_a_domain_for_bots_no_gateway_is_needed(flotilla: Flotilla) -> None:
    assert "ok      gateway: not used" in flotilla("doctor").output


def test_bots_that_should_run_and_are_stopped_are_named(flotilla: Flotilla, database: Database) -> None:
    desk = add_bot(database, add_node(database))
    assert "ok      bots" in flotilla("doctor").output
    with database.transaction() as session:
        bot = session.get_one(Bot, desk.id)
        bot.state, bot.state_detail = (
            BotState.STOPPED,
            "Exited with status 128: restart the Docker engine of the node",
        )
    output = flotilla("doctor").output
    assert (
        "FAILED  bots: desk should run, but is stopped: Exited with status 128: restart the Docker engine" in output
    )

"""Tests of the sandbox on a real engine: faults of containers, isolation, and removal of everything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import docker
import pytest

from daemon.conformance import readiness
from daemon.conformance.checks import image as image_checks
from daemon.conformance.checks import lifecycle, starting
from daemon.conformance.lab import Stopped
from daemon.conformance.options import BotOptions
from daemon.conformance.outcomes import Check, CheckResult, Outcome
from daemon.conformance.runner import run_checks
from daemon.conformance.sandbox import (
    MEMORY_BYTES,
    PIDS_LIMIT,
    CannotStart,
    Sandbox,
    find_written_paths,
    open_sandbox,
)
from daemon.conformance.sandbox_cleanup import (
    OWNER_LABEL,
    RUN_LABEL,
    STARTED_LABEL,
    create_labels,
    describe_process,
    is_leftover,
)
from daemon.conformance.trial import Trial
from demo import versions
from portal.models import Node
from tests.daemon.conformance import broken_images
from tests.daemon.conformance.broken_images import build_image
from tests.support.images import ReferenceImages

OPTIONS = BotOptions(environment={"HOSTED_MODE": "1"}, start_seconds=30, watch_seconds=0.3)


@pytest.fixture
def sandbox(engine: docker.APIClient, docker_url: str) -> Iterator[Sandbox]:
    """A sandbox with the usual options."""
    with open_sandbox(engine, Node(name="test", docker_url=docker_url, bot_host="127.0.0.1"), OPTIONS) as sandbox:
        yield sandbox


@pytest.fixture
def base(reference_images: ReferenceImages) -> str:
    """The image of a good release."""
    return reference_images.reference(versions.FIRST)


def find_failure(sandbox: Sandbox, image: str, checks: list[Check], options: BotOptions = OPTIONS) -> CheckResult:
    """Run checks on an image and return the only result that has not passed."""
    results = list(run_checks(checks, Trial(sandbox, image, options)))
    (failure,) = [result for result in results if result.outcome is not Outcome.PASSED]
    return failure


def test_files_outside_of_the_volumes_are_found(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    image = build_image(engine, base, run_labels, program=broken_images.WRITES_OUTSIDE)
    failure = find_failure(sandbox, image, [*starting.CHECKS, lifecycle.only_volumes_are_written])
    assert failure.reason.startswith("The bot wrote to /srv.log.")


def test_bot_that_ignores_the_stop_signal_is_found(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    image = build_image(engine, base, run_labels, program=broken_images.IGNORES_SIGTERM)
    failure = find_failure(sandbox, image, [*starting.CHECKS, lifecycle.stops_in_time])
    assert failure.reason.startswith("The bot still ran 10 s after signal 15 and was killed.")


def test_other_stop_signal_is_sent(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    program = broken_images.STOPS_BY_ANOTHER_SIGNAL
    image = build_image(engine, base, run_labels, program=program, lines=["STOPSIGNAL SIGUSR1"])
    trial = Trial(sandbox, image, OPTIONS)
    list(run_checks(starting.CHECKS, trial))
    assert trial.stop() == Stopped(exit_code=0, signal=signal.SIGUSR1, killed=False)


def test_bot_on_loopback_is_found(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    image = build_image(engine, base, run_labels, program=broken_images.LOOPBACK_ONLY)
    options = BotOptions(environment=OPTIONS.environment, start_seconds=3)
    failure = find_failure(sandbox, image, [starting.listens_on_its_port], options)
    assert "Nothing listens on port 3100 after 3 s. A bot that listens on 127.0.0.1 only" in failure.reason


def test_crash_is_reported_with_the_log(sandbox: Sandbox, reference_images: ReferenceImages) -> None:
    failure = find_failure(sandbox, reference_images.reference(versions.CRASHING), [starting.listens_on_its_port])
    assert "exited with status 1" in failure.reason
    assert "MAXIMUM_PATIENCE" in failure.reason


def test_unhealthy_bot_is_reported_with_its_answer(sandbox: Sandbox, reference_images: ReferenceImages) -> None:
    image = reference_images.reference(versions.UNHEALTHY)
    options = BotOptions(start_seconds=2)
    failure = find_failure(sandbox, image, [starting.listens_on_its_port, starting.becomes_healthy], options)
    assert "GET /health is not healthy after 2 s: HTTP 503." in failure.reason


def test_slow_migration_is_waited_for(sandbox: Sandbox, reference_images: ReferenceImages) -> None:
    trial = Trial(sandbox, reference_images.reference(versions.SLOW_MIGRATION), OPTIONS)
    assert {result.outcome for result in run_checks(starting.CHECKS, trial)} == {Outcome.PASSED}


def test_invalid_changelog_and_undeclared_volume_are_found(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    changelog = '{"version": "1", "date": "tomorrow", "sections": []}'
    image = build_image(engine, base, run_labels, changelog=changelog, lines=["VOLUME /cache"])
    results = list(run_checks(image_checks.CHECKS, Trial(sandbox, image, OPTIONS)))
    assert [(result.outcome, result.reason) for result in results] == [
        (Outcome.FAILED, "The changelog needs a date such as 2026-01-31."),
        (Outcome.FAILED, "The image declares /cache. If the bot needs it, add it with --volume."),
    ]


def test_image_without_changelog_still_conforms(sandbox: Sandbox, reference_images: ReferenceImages) -> None:
    image = reference_images.reference(versions.WITHOUT_CHANGELOG)
    failure = find_failure(sandbox, image, list(image_checks.CHECKS))
    assert failure.outcome is Outcome.NOT_OFFERED


def test_bot_has_an_id_limits_no_capabilities_and_an_internal_network(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    image = build_image(engine, base, run_labels, program=broken_images.PRINTS_ITS_LIMITS)
    trial = Trial(sandbox, image, OPTIONS)
    assert {result.outcome for result in run_checks(starting.CHECKS, trial)} == {Outcome.PASSED}
    log = trial.bot.log_tail()
    assert "CapEff:\t0000000000000000" in log
    assert "NoNewPrivs:\t1" in log
    (container,) = engine.containers(filters={"label": f"{OWNER_LABEL}={describe_process(os.getpid())}"})
    found = engine.inspect_container(container["Id"])
    limits = found["HostConfig"]
    assert "FLOTILLA_BOT_ID=conformance" in found["Config"]["Env"]
    assert (limits["Memory"], limits["PidsLimit"], limits["NanoCpus"]) == (MEMORY_BYTES, PIDS_LIMIT, 2 * 10**9)
    # The engine blocks other networks by rules of the firewall, which the engine of the tests does not set.
    assert engine.inspect_network(container["HostConfig"]["NetworkMode"])["Internal"]


def test_volumes_are_copied_with_owners_and_links(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    read = (
        "import os; print(oct(os.stat('/data/deep').st_mode), open('/data/link').read(), sorted(os.listdir('/data')))"
    )
    write = (
        "import os; os.makedirs('/data/deep/er'); open('/data/deep/er/file', 'w').write('kept'); "
        f"os.symlink('deep/er/file', '/data/link'); os.chmod('/data/deep', 0o2750); {read}"
    )
    volumes = sandbox.create_volumes()
    first = sandbox.start(build_image(engine, base, run_labels, program=write), volumes, {})
    wait_for_exit(first.problem)
    copy = sandbox.copy_volumes(volumes, base)
    second = sandbox.start(build_image(engine, base, run_labels, program=read), copy, {})
    wait_for_exit(second.problem)
    assert first.log_tail() == second.log_tail() == "0o42750 kept ['deep', 'link']\n"


def wait_for_exit(problem: object) -> None:
    """Wait until a bot has exited."""
    assert callable(problem)
    deadline = time.monotonic() + 30
    while problem() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_image_without_a_command_cannot_start(
    sandbox: Sandbox, engine: docker.APIClient, base: str, run_labels: dict[str, str]
) -> None:
    image = build_image(engine, base, run_labels, lines=['CMD ["/no/such/program"]'])
    with pytest.raises(CannotStart, match="/no/such/program"):
        sandbox.start(image, sandbox.create_volumes(), {})


def list_labelled(engine: docker.APIClient, process: int) -> list[str]:
    """Return what a process created on the engine for sandboxes."""
    filters = {"label": f"{OWNER_LABEL}={describe_process(process)}"}
    return [
        *(container["Id"] for container in engine.containers(all=True, filters=filters)),
        *(volume["Name"] for volume in engine.volumes(filters=filters)["Volumes"] or ()),
        *(network["Name"] for network in engine.networks(filters=filters)),
    ]


def test_everything_is_removed_at_the_end_and_after_errors(
    engine: docker.APIClient, docker_url: str, base: str
) -> None:
    node = Node(name="test", docker_url=docker_url, bot_host="127.0.0.1")

    def fail_in_the_middle() -> None:
        with open_sandbox(engine, node, OPTIONS) as sandbox:
            trial = Trial(sandbox, base, OPTIONS)
            list(run_checks(starting.CHECKS, trial))
            readiness.restart(trial, base, **trial.secrets())
            assert len(list_labelled(engine, os.getpid())) >= 4
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_in_the_middle()
    assert list_labelled(engine, os.getpid()) == []


def test_leftovers_of_killed_runs_are_removed_and_others_stay(engine: docker.APIClient, docker_url: str) -> None:
    node = Node(name="test", docker_url=docker_url, bot_host="127.0.0.1")
    killed = {RUN_LABEL: "killed", OWNER_LABEL: describe_process(os.getpid())[:-1], STARTED_LABEL: "1"}
    elsewhere = {RUN_LABEL: "elsewhere", OWNER_LABEL: "boot:pid:[1]:7-99", STARTED_LABEL: str(int(time.time()))}
    engine.create_volume("left-by-killed-run", labels=killed)
    engine.create_volume("of-another-machine", labels=elsewhere)
    try:
        with open_sandbox(engine, node, OPTIONS) as running, open_sandbox(engine, node, OPTIONS):
            names = {volume["Name"] for volume in engine.volumes()["Volumes"]}
            assert "left-by-killed-run" not in names
            assert "of-another-machine" in names
            assert running.create_volumes()  # its network and this process are alive
            assert len(list_labelled(engine, os.getpid())) == 4
    finally:
        engine.remove_volume("of-another-machine")


def test_leftovers_are_recognized_by_their_process() -> None:
    alive = create_labels("run")
    now = float(alive[STARTED_LABEL])
    place = alive[OWNER_LABEL].rpartition(":")[0]
    assert not is_leftover(alive, now)
    assert not is_leftover(alive, now + 10**7)
    assert is_leftover({**alive, OWNER_LABEL: f"{place}:{os.getpid()}-1"}, now), "the number was given to another"
    assert is_leftover({**alive, OWNER_LABEL: f"{place}:999999999-1"}, now)
    foreign = {**alive, OWNER_LABEL: "another machine:pid:[1]:7-99"}
    assert not is_leftover(foreign, now + 3600)
    assert is_leftover(foreign, now + 7 * 3600)
    assert is_leftover({RUN_LABEL: "run"}, now)


@pytest.mark.parametrize(
    ("changed", "written"),
    [
        ([], []),
        (["/data", "/data/x", "/tmp/y", "/run/z", "/run"], []),  # noqa: S108 - in a container
        (["/var", "/var/lib", "/var/lib/bot", "/var/run", "/var/run/pid"], ["/var/lib/bot"]),
        (["/database"], ["/database"]),
        (["/srv", "/srv/a", "/srv/b/c", "/srv/b"], ["/srv/a", "/srv/b/c"]),
        (["/files", "/files/store"], []),
    ],
)
def test_written_paths_are_those_outside_of_volumes(changed: list[str], written: list[str]) -> None:
    assert find_written_paths(changed, ("/data", "/files/store")) == written

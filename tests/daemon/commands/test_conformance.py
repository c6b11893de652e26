"""The command `flotilla conformance`: reports, exit codes, invalid options, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import docker
import pytest
from click.testing import CliRunner, Result

from daemon import cli
from daemon.conformance.checks import ALL_CHECKS
from daemon.conformance.sandbox import open_sandbox
from daemon.conformance.sandbox_cleanup import OWNER_LABEL, describe_process
from demo import versions
from portal.models import Node
from portal.paths import ROOT
from tests.daemon.conformance.broken_images import build_image
from tests.daemon.conformance.test_sandbox import OPTIONS, list_labelled
from tests.support.images import ReferenceImages


def run(*arguments: str) -> Result:
    """Run the command without any setting of Flotilla."""
    result = CliRunner().invoke(cli.main, ["conformance", *arguments], prog_name="flotilla")
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def good(reference_images: ReferenceImages) -> str:
    """The reference of a good image."""
    return reference_images.reference(versions.FIRST)


def test_reference_bot_conforms_and_can_be_updated(
    docker_url: str, reference_images: ReferenceImages, good: str, tmp_path: Path
) -> None:
    image = reference_images.reference(versions.MIGRATING)
    report = tmp_path / "report.xml"
    result = run(
        *(image, "--against", good, "--engine", docker_url),
        *("--env", "HOSTED_MODE=1", "--json", "--junit", str(report)),
    )
    document = json.loads(result.stdout)
    failed = [check for check in document["checks"] if check["outcome"] != "passed"]
    assert (failed, result.exit_code) == ([], 0)
    assert document["counts"] == {"passed": len(ALL_CHECKS), "failed": 0, "not offered": 0, "skipped": 0}
    assert (document["image"], document["against"], document["conforms"]) == (image, good, True)
    suites = ET.parse(report).getroot()  # noqa: S314 - our own file
    assert (suites.get("tests"), suites.get("failures")) == (str(len(ALL_CHECKS)), "0")


@pytest.mark.parametrize(
    "version", [versions.SECOND, versions.THIRD, versions.WITHOUT_CHANGELOG], ids=lambda version: version.version
)
def test_images_of_the_demo_conform(
    docker_url: str, reference_images: ReferenceImages, version: versions.BotVersion
) -> None:
    result = run(reference_images.reference(version), "--engine", docker_url, "--env", "HOSTED_MODE=1")
    assert result.exit_code == 0, result.output
    assert "\nThe image conforms to docs/bot-contract.md.\n" in result.output


def test_failures_name_reason_and_clause(docker_url: str, good: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    result = run(good, "--engine", docker_url, "--junit", str(report))
    assert result.exit_code == 1
    assert "FAILED       C12   Hosted mode is on\n" in result.output
    assert "managed: false. Name the variables" in result.output
    assert "skipped      C13   Visitors without identity are refused\n" in result.output
    assert result.output.endswith("The image does not conform. See docs/bot-contract.md: C12.\n")
    suites = ET.parse(report).getroot()  # noqa: S314 - our own file
    (failure,) = suites.iter("failure")
    assert failure.get("type") == "C12"
    assert "managed: false" in (failure.text or "")
    skipped = [str(found.get("message")) for found in suites.iter("skipped")]
    assert "skipped: Needs: Hosted mode is on." in skipped
    assert suites.get("skipped") == str(len(skipped))


def test_settings_of_the_image_are_used(docker_url: str, good: str) -> None:
    result = run(
        *(good, "--engine", docker_url, "--env", "HOSTED_MODE=1", "--json"),
        *("--port", "8080", "--env", "PORT=8080", "--page", "/notes"),
        *("--header-prefix", "x-acme-user", "--env", "IDENTITY_HEADER_PREFIX=x-acme-user"),
        *("--volume", "/data", "--volume", "/paperclip", "--capability", "CHOWN"),
    )
    assert (result.exit_code, json.loads(result.stdout)["counts"]["failed"]) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "tcp://10.0.0.1:2375"], "must run on this machine"),
        (["--env", "HOSTED_MODE"], "write NAME=VALUE"),
        (["--env", "1X=2"], "write NAME=VALUE"),
        (["--volume", "data"], "write each absolute path once"),
        (["--volume", "/data", "--volume", "/data"], "write each absolute path once"),
        (["--health-path", "health"], "begins with /"),
        (["--page", "/a b"], "begins with /"),
        (["--header-prefix", "x platform"], "another form"),
        (["--secret-variable", "A-B"], "another form"),
        (["--capability", "chown"], "another form"),
        (["--port", "0"], "0 is not in the range"),
        (["--timeout", "0"], "0.0 is not in the range"),
        (["--junit", "/no/such/folder/report.xml"], "/no/such/folder does not exist"),
    ],
)
def test_invalid_options_are_refused(arguments: list[str], words: str) -> None:
    result = run("registry.test/bot:1", *arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_run_without_an_engine_is_refused(tmp_path: Path) -> None:
    result = run("registry.test/bot:1", "--engine", f"unix://{tmp_path}/docker.sock")
    assert result.exit_code == 2
    assert "does not answer" in result.output


def test_missing_and_invalid_images_are_refused(docker_url: str, registry: str, good: str) -> None:
    for image, words in (
        (f"{registry}/no/such:image", f"Pulling {registry}/no/such:image failed"),
        ("UPPER/case", "repository"),
    ):
        for arguments in ((image,), (good, "--against", image)):
            result = run(*arguments, "--engine", docker_url)
            assert (result.exit_code, words in result.output) == (2, True), result.output


def test_image_that_cannot_be_started_is_no_failure_of_the_contract(
    docker_url: str, engine: docker.APIClient, good: str, run_labels: dict[str, str]
) -> None:
    image = build_image(engine, good, run_labels, lines=['CMD ["/no/such/program"]'])
    result = run(image, "--engine", docker_url)
    assert result.exit_code == 2
    assert "cannot be started" in result.output


@contextmanager
def running_command(image: str, docker_url: str, engine: docker.APIClient) -> Iterator[subprocess.Popen[str]]:
    """Start the command as a process, and wait until it has started a bot."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.cli", "conformance", image, "--engine", docker_url],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        owner = describe_process(process.pid)
        filters: dict[str, Any] = {"label": f"{OWNER_LABEL}={owner}", "status": "running"}
        deadline = time.monotonic() + 60
        while not engine.containers(filters=filters):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_remove_the_sandbox(
    docker_url: str, engine: docker.APIClient, reference_images: ReferenceImages, number: signal.Signals
) -> None:
    with running_command(reference_images.reference(versions.SLOW), docker_url, engine) as process:
        created = list_labelled(engine, process.pid)
        assert len(created) == 4
        process.send_signal(number)
        time.sleep(0.1)
        process.send_signal(number)  # an impatient second time
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 128 + number, (output, errors)
        assert "Traceback" not in errors
    left = {*(found["Id"] for found in engine.containers(all=True)), *(found["Name"] for found in engine.networks())}
    assert left & set(created) == set()


def test_leftovers_of_a_killed_run_are_removed_by_the_next(
    docker_url: str, engine: docker.APIClient, reference_images: ReferenceImages
) -> None:
    node = Node(name="test", docker_url=docker_url, bot_host="127.0.0.1")
    with running_command(reference_images.reference(versions.SLOW), docker_url, engine) as process:
        created = set(list_labelled(engine, process.pid))
        with open_sandbox(engine, node, OPTIONS):
            assert created <= set(list_labelled(engine, process.pid)), "the other run is alive"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with open_sandbox(engine, node, OPTIONS):
        left = {
            *(found["Id"] for found in engine.containers(all=True)),
            *(found["Name"] for found in engine.volumes()["Volumes"] or ()),
            *(found["Name"] for found in engine.networks()),
        }
    assert left & created == set()

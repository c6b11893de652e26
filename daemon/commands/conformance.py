"""`flotilla conformance`: test an image against the contract of bot images."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from docker.errors import DockerException

from daemon.commands.output import print_json, print_text
from daemon.conformance import report
from daemon.conformance.checks import ALL_CHECKS
from daemon.conformance.images import require_image
from daemon.conformance.junit import as_junit
from daemon.conformance.options import DEFAULT_VOLUMES, BotOptions
from daemon.conformance.outcomes import CheckResult
from daemon.conformance.runner import run_checks
from daemon.conformance.sandbox import open_sandbox
from daemon.conformance.sandbox_cleanup import ENDING_SIGNALS
from daemon.conformance.trial import Trial
from daemon.engine.client import open_engine
from daemon.errors import OperationFailed
from daemon.registry.errors import RegistryError
from portal.models import Node
from portal.rules.outside_text import clean_text
from portal.rules.references import InvalidReference

_HEADER_PREFIX = re.compile(r"[A-Za-z0-9-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_MAX_ERROR = 2000


class CannotRun(click.ClickException):
    """The kit cannot test the image, for example because the engine does not answer."""

    exit_code = 2


def _parse_environment(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in value]
    if any(not equals or not _VARIABLE.fullmatch(name) for name, equals, _ in pairs):
        raise click.BadParameter("write NAME=VALUE", ctx, param)
    return {name: content for name, _, content in pairs}


def _parse_path(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"/[!-~]*", value):
        raise click.BadParameter("a path begins with / and has no spaces", ctx, param)
    return value


def _parse_volumes(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(r"(/[\w.-]+)+", path, re.ASCII) for path in value) or len(set(value)) < len(value):
        raise click.BadParameter("write each absolute path once, such as /data", ctx, param)
    return value


class _Pattern(click.ParamType[str]):
    name = "text"

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if self._pattern.fullmatch(value) else self.fail(f"{value!r} has another form", param, ctx)


def _parse_engine(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.startswith("unix:///"):
        raise click.BadParameter("the engine must run on this machine: unix:///var/run/docker.sock", ctx, param)
    return value


def _parse_report(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"the folder {value.parent} does not exist", ctx, param)
    return value


@click.command()
@click.argument("image")
@click.option("--against", metavar="IMAGE", help="Earlier image: test the update from it and the rollback to it.")
@click.option("--port", type=click.IntRange(1, 65535), default=3100, show_default=True, help="Port of the bot.")
@click.option("--health-path", default="/health", show_default=True, callback=_parse_path, help="Health check.")
@click.option("--page", default="/", show_default=True, callback=_parse_path, help="A page that only members get.")
@click.option(
    "--secret-variable",
    type=_Pattern(_VARIABLE),
    default="PROVISION_SECRET",
    show_default=True,
    help="Environment variable with the provision secret.",
)
@click.option(
    "--header-prefix",
    type=_Pattern(_HEADER_PREFIX),
    default="x-platform-user",
    show_default=True,
    help="Identity headers are PREFIX-id, PREFIX-email, PREFIX-name.",
)
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    default=DEFAULT_VOLUMES,
    callback=_parse_volumes,
    show_default=True,
    help="Path of a volume in the container. Repeatable; replaces the default.",
)
@click.option(
    "--env",
    "environment",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_parse_environment,
    help="Environment variable, such as the one that switches hosted mode on. Repeatable.",
)
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    type=_Pattern(re.compile(r"[A-Z_]{1,64}")),
    help="Linux capability that the container keeps, such as CHOWN. Repeatable.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(1, 3600),
    default=120,
    show_default=True,
    help="Seconds for becoming healthy.",
)
@click.option(
    "--engine",
    "engine_url",
    envvar="DOCKER_HOST",
    default="unix:///var/run/docker.sock",
    show_default=True,
    callback=_parse_engine,
    help="Docker engine on this machine.",
)
@click.option("--json", "json_", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_parse_report,
    help="Also write the report as JUnit XML.",
)
def conformance(  # noqa: PLR0917 - click passes options by name
    image: str,
    against: str | None,
    port: int,
    health_path: str,
    page: str,
    secret_variable: str,
    header_prefix: str,
    volumes: tuple[str, ...],
    environment: dict[str, str],
    capabilities: tuple[str, ...],
    timeout: float,
    engine_url: str,
    json_: bool,
    junit: Path | None,
) -> None:
    """Test IMAGE against the contract of bot images, docs/bot-contract.md.

    The image runs in a sandbox on a Docker engine of this machine, without access to other networks. Everything that
    the sandbox contains is removed at the end. Neither a database nor settings are needed.

    Exit codes: 0 the image conforms, 1 it does not, 2 the test could not run.
    """
    options = BotOptions(
        port=port,
        health_path=health_path,
        page=page,
        secret_variable=secret_variable,
        header_prefix=header_prefix,
        volumes=volumes,
        environment=environment,
        capabilities=capabilities,
        start_seconds=timeout,
    )
    results: list[CheckResult] = []

    def record(result: CheckResult) -> None:
        results.append(result)
        if not json_:
            print_text("\n".join(report.result_lines(result)))

    _run_or_refuse(engine_url, image, against, options, record)
    if junit is not None:
        junit.write_text(as_junit(image, results), encoding="utf-8")
    if json_:
        print_json(report.as_json(image, against, results))
    else:
        print_text("\n".join(report.summary_lines(results)))
    if not report.conforms(results):
        raise click.exceptions.Exit(1)


def _run_or_refuse(
    engine_url: str, image: str, against: str | None, options: BotOptions, record: Callable[[CheckResult], None]
) -> None:
    if sys.platform != "linux":
        raise CannotRun("The test needs Linux, because it connects to the network of the containers directly.")
    node = Node(name="conformance", docker_url=engine_url, bot_host="127.0.0.1")
    try:
        with _ending_by_signals(), open_engine(node) as engine:
            image_id = require_image(engine, image)
            earlier_id = None if against is None else require_image(engine, against)
            with open_sandbox(engine, node, options) as sandbox:
                for result in run_checks(ALL_CHECKS, Trial(sandbox, image_id, options, earlier_id)):
                    record(result)
    except (DockerException, OperationFailed, RegistryError, InvalidReference) as error:
        raise CannotRun(clean_text(error, _MAX_ERROR)) from error


@contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Let signals end the run like Ctrl-C, so that the sandbox is removed, with the usual exit code of the signal."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in ENDING_SIGNALS}
    try:
        yield
    except KeyboardInterrupt as error:
        raise click.exceptions.Exit(128 + received[0] if received else 130) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

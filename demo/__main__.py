"""The command `python -m demo`: run a demo platform, serve the portal for development, clean up. Used by `make`."""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import docker

from daemon.engine.client import Engine
from demo import bot_from_template
from demo.bot_from_template import create_org_with_bot
from demo.checks.memberships import check_memberships
from demo.checks.updates import check_updates
from demo.cleanup import remove_demo
from demo.config import DemoConfig, load_config
from demo.engine import existing_engine, running_engine
from demo.fork import DemoFork
from demo.images import BOT_REPOSITORY, build_base_image, build_helper_image, build_reference_bot
from demo.mail_server import running_mail_server
from demo.platform import build_environment, migrate, running_platform
from demo.processes import DemoError, MissingRequirement
from demo.registry import running_registry
from demo.seed import OPERATOR, ORGS, TAG, seed
from demo.serve import SERVE_FOLDER, serve
from demo.shell import open_shell
from demo.users import add_users
from demo.versions import ALL_VERSIONS, FIRST
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.rules.roles import ROLES


@click.group(invoke_without_command=True)
@click.option(
    "--once",
    is_flag=True,
    help="Let a person join and leave, roll out a good and a bad release, print the outcome, and end.",
)
@click.pass_context
def main(context: click.Context, *, once: bool) -> None:
    """Start a platform with four organizations and seven bots on this machine."""
    if context.invoked_subcommand is not None:
        return
    _end_on_sigterm()
    try:
        with _locked(load_config()) as config:
            _run(config, once=once)
    except DemoError as error:
        sys.exit(f"The demo stopped: {error}")
    except KeyboardInterrupt:
        print("\nStopped. `make demo` continues with the same data; `make demo-clean` removes everything.")


@main.command("clean")
def clean_command() -> None:
    """Remove everything that the demo created on this machine."""
    try:
        with _locked(load_config()) as config:
            remove_demo(config)
    except DemoError as error:
        sys.exit(f"Nothing was removed: {error}")
    print("The demo was removed.")


@main.command("serve")
def serve_command() -> None:
    """Run portal, worker and scheduler on sample data without Docker, and reload them when the code changes."""
    _end_on_sigterm()
    try:
        with _locked(load_config(SERVE_FOLDER)) as config:
            serve(config, lambda: _print_accounts(config))
    except DemoError as error:
        sys.exit(f"Stopped: {error}")
    except KeyboardInterrupt:
        print(f"\nStopped. The data is in {SERVE_FOLDER}; remove that folder to start with fresh data.")


@main.command("shell")
def shell_command() -> None:
    """Open a Python shell with the application context, a database session and the models."""
    open_shell()


def _run(config: DemoConfig, *, once: bool) -> None:
    with _engine(config) as (engine, docker_url), running_registry(config.folder / "registry", config.registry_port):
        _print_step("Building the reference images (a minute at the first start)")
        helper_image = _build_images(config, engine)
        DemoFork(config.folder / "fork").create()
        settings = build_environment(config, helper_image)
        _print_step("Migrating the database")
        migrate(settings)
        with running_mail_server(config), running_platform(config, settings):
            _print_step("Creating organizations and adopting bots")
            seed(config, settings, engine, docker_url)
            use_keys(config.secret_key)
            database = Database(config.database_url)
            create_org_with_bot(config, settings, database)
            slugs = (*ORGS, bot_from_template.SLUG)
            add_users(database, slugs, config.operator_password)
            _print_accounts(config, slugs)
            if not once:
                _print_next_steps(config, docker_url)
                threading.Event().wait()
            check_memberships(config, engine, database)
            if not check_updates(config, settings, engine, database):
                raise DemoError("a result differs from what is expected; see failed requests and rows marked WRONG")
    print("\nEvery bot runs the expected version with its data intact.")


@contextmanager
def _engine(config: DemoConfig) -> Iterator[tuple[docker.APIClient, str]]:
    """Yield a client and the address of the machine's engine, or of a private engine where there is none."""
    if (existing := existing_engine()) is not None:
        _print_step(f"Using the Docker engine at {existing}")
        yield Engine(base_url=existing, version="auto", timeout=120), existing
        return
    _print_step("Starting a private Docker engine")
    with running_engine(config.folder / "engine") as url:
        yield Engine(base_url=url, version="auto", timeout=120), url


def _build_images(config: DemoConfig, engine: docker.APIClient) -> str:
    """Build and push all reference images, and return the reference of the snapshot helper."""
    build_base_image(engine, config.labels)
    helper = build_helper_image(engine, config.registry, config.labels)
    if not (config.folder / "seeded").exists():
        build_reference_bot(engine, config.registry, FIRST, TAG, config.labels)
    for version in ALL_VERSIONS:
        build_reference_bot(engine, config.registry, version, version.version, config.labels)
        print(f"  {BOT_REPOSITORY}:{version.version} ({version.behaviour})", flush=True)
    return helper


@contextmanager
def _locked(config: DemoConfig) -> Iterator[DemoConfig]:
    """Hold the lock of a demo for the duration of a `with` block.

    Raises:
        MissingRequirement: another process holds the lock.
    """
    lock: Path = config.folder / "lock"
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MissingRequirement("it is already running; stop it with Ctrl-C first") from None
        yield config


def _end_on_sigterm() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _print_step(text: str) -> None:
    print(f"* {text}", flush=True)


def _print_accounts(config: DemoConfig, slugs: Iterable[str] = ORGS) -> None:
    accounts = ", ".join(f"{role}@" for role in ROLES)
    print(
        f"""
  Portal     {config.base_url}/admin/
  Sign in    {OPERATOR}
             or {accounts} of {", ".join(f"{slug}.example" for slug in slugs)}
  Password   {config.operator_password} (for every account)
  Bots       http://<name>.{config.bots_domain}/, or press Open in the portal
  Mails      {config.mail_url}
  Logs       {config.folder / "logs"}
""",
        flush=True,
    )


def _print_next_steps(config: DemoConfig, docker_url: str) -> None:
    repository = f"{config.registry}/{BOT_REPOSITORY}"
    print(
        f"""  To publish a new release of the bot, run

      export DOCKER_HOST={docker_url}
      docker tag {repository}:1.1.0 {repository}:{TAG} && docker push {repository}:{TAG}

  It appears at {config.base_url}/admin/releases within 15 seconds. Version 1.7.0 destroys its data.

  To test a release against the contract of bot images, run

      .venv/bin/flotilla conformance {repository}:1.1.0 --env HOSTED_MODE=1 --engine {docker_url}

  Ctrl-C stops the demo.
""",
        flush=True,
    )


if __name__ == "__main__":
    main(prog_name="python -m demo")

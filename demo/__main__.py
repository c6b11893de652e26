"""`python -m demo`: the whole platform on this machine, for looking at; `make demo` calls it."""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
import docker

from demo.cleaning import clean
from demo.engine import existing_engine, running_engine
from demo.home import Home, open_home
from demo.images import BOT_REPOSITORY, build_base_image, build_helper_image, build_reference_bot
from demo.mailbox import running_mailbox
from demo.people import add_people
from demo.platform import environment, migrate, running_platform
from demo.processes import MissingRequirement
from demo.proof import run_proof
from demo.registry import running_registry
from demo.seed import OPERATOR, ORGS, TAG, seed
from demo.versions import ALL_VERSIONS, FIRST
from portal.database import Database
from portal.models.encrypted import use_keys


@click.group(invoke_without_command=True)
@click.option("--once", is_flag=True, help="Drive a good and a bad release through, print the outcome, and end.")
@click.pass_context
def main(context: click.Context, *, once: bool) -> None:
    """Start a platform with three organizations and six bots on this machine."""
    if context.invoked_subcommand is not None:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _one_at_a_time(open_home()) as home:
            _run(home, once=once)
    except MissingRequirement as error:
        sys.exit(f"The demo stopped: {error}")
    except KeyboardInterrupt:
        print("\nStopped. `make demo` goes on where this ended, `make demo-clean` removes everything.")


@main.command("clean")
def clean_command() -> None:
    """Remove everything the demo made on this machine."""
    try:
        with _one_at_a_time(open_home()) as home:
            clean(home)
    except MissingRequirement as error:
        sys.exit(f"Nothing was removed: {error}")
    print("The demo is gone.")


def _run(home: Home, *, once: bool) -> None:
    with _engine(home) as (engine, docker_url), running_registry(home.folder / "registry", home.registry_port):
        _step("Building the reference images (a minute at the first start)")
        helper = _images(home, engine)
        settings = environment(home, helper)
        _step("Migrating the database")
        migrate(settings)
        with running_mailbox(home), running_platform(home, settings):
            _step("Creating organizations and adopting bots")
            seed(home, settings, engine, docker_url)
            use_keys(home.secret_key)
            database = Database(f"sqlite:///{home.folder / 'data' / 'flotilla.db'}")
            add_people(database, ORGS, home.operator_password)
            _greet(home)
            if not once:
                _push_hints(home, docker_url)
                threading.Event().wait()
            if not run_proof(home, settings, engine, database):
                raise MissingRequirement("not every bot ended where it should; the rows marked WRONG tell which")
    print("\nEvery bot is where it should be, with its data.")


@contextmanager
def _engine(home: Home) -> Iterator[tuple[docker.APIClient, str]]:
    if (given := existing_engine()) is not None:
        _step(f"Using the Docker engine at {given}")
        yield docker.APIClient(base_url=given, version="auto", timeout=120), given
        return
    _step("Starting a Docker engine of the demo's own")
    with running_engine(home.folder / "engine") as url:
        yield docker.APIClient(base_url=url, version="auto", timeout=120), url


def _images(home: Home, engine: docker.APIClient) -> str:
    build_base_image(engine, home.labels)
    helper = build_helper_image(engine, home.registry, home.labels)
    if not (home.folder / "seeded").exists():
        build_reference_bot(engine, home.registry, FIRST, TAG, home.labels)
    for version in ALL_VERSIONS:
        build_reference_bot(engine, home.registry, version, version.version, home.labels)
        print(f"  {BOT_REPOSITORY}:{version.version} ({version.behaviour})", flush=True)
    return helper


@contextmanager
def _one_at_a_time(home: Home) -> Iterator[Home]:
    lock = home.folder / "lock"
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MissingRequirement("the demo is running already; end it with Ctrl-C first") from None
        yield home


def _step(text: str) -> None:
    print(f"* {text}", flush=True)


def _greet(home: Home) -> None:
    print(
        f"""
  Portal     {home.base_url}/admin/
  Sign in    {OPERATOR}
             or owner@, admin@ or member@ of {", ".join(f"{slug}.example" for slug in ORGS)}
  Password   {home.operator_password} (of all of them)
  Mails      {home.mail_url}
  Logs       {home.folder / "logs"}
""",
        flush=True,
    )


def _push_hints(home: Home, docker_url: str) -> None:
    repository = f"{home.registry}/{BOT_REPOSITORY}"
    print(
        f"""  Now be the author of the bot. Push a new release with

      export DOCKER_HOST={docker_url}
      docker tag {repository}:1.1.0 {repository}:{TAG} && docker push {repository}:{TAG}

  and watch it at {home.base_url}/admin/releases within 15 seconds. 1.7.0 is the one that destroys its data.
  Ctrl-C ends the demo.
""",
        flush=True,
    )


if __name__ == "__main__":
    main(prog_name="python -m demo")

"""The development server: portal, worker and scheduler on sample data, reloaded on changes. Used by `make serve`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from watchfiles import watch

from demo.config import DemoConfig
from demo.engine import existing_engine
from demo.mail_server import running_mail_server
from demo.platform import build_environment, flotilla, migrate, running_platform
from demo.processes import DemoError
from demo.sample_data import REGISTRY, add_sample_data
from demo.seed import NODE, ORGS, create_operator_and_orgs
from demo.users import add_users
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.paths import ROOT

SERVE_FOLDER = ROOT / ".serve"
"""Data of the development server; it is separate from the demo's data."""

_WATCHED = tuple(ROOT / name for name in ("portal", "daemon", "templates", "static", "migrations"))


def serve(config: DemoConfig, announce: Callable[[], None]) -> None:
    """Run the platform on sample data until the process is interrupted, and reload it when its files change.

    Args:
        config: of the development server.
        announce: called once when the portal answers.

    Raises:
        DemoError: a process did not start or a command failed.
    """
    settings = development_environment(config)
    migrate(settings)
    prepare_data(config, settings)
    with running_mail_server(config), running_platform(config, settings) as platform:
        announce()
        print("  The processes reload when the code changes. Ctrl-C stops them.\n", flush=True)
        for changes in watch(*_WATCHED):
            paths = sorted({str(Path(path).relative_to(ROOT)) for _, path in changes})
            print(f"  {paths[0]}{f' and {len(paths) - 1} more' if paths[1:] else ''} changed; reloading", flush=True)
            if any(path.startswith("migrations/") for path in paths):
                _try_to_migrate(settings)
            platform.reload()


def development_environment(config: DemoConfig) -> dict[str, str]:
    """Return the environment of the development server's processes."""
    return build_environment(config, "debian:12-slim") | {
        "FLEET_IMAGE_ALLOWLIST": REGISTRY,
        # The registry of the sample bots does not exist, so the polls would only produce errors.
        "POLL_SECONDS": "86400",
    }


def prepare_data(config: DemoConfig, settings: Mapping[str, str]) -> None:
    """Create accounts, organizations and sample data, unless an earlier start created them.

    Raises:
        DemoError: a command failed.
    """
    seeded = config.folder / "seeded"
    if seeded.exists():
        return
    create_operator_and_orgs(config, settings)
    if (docker_url := existing_engine()) is not None:
        snapshots = str(config.folder / "snapshots")
        flotilla(settings, "nodes", "add", NODE, "--docker-url", docker_url, "--snapshot-dir", snapshots)
        print(f"  node {NODE} for the Docker engine at {docker_url}", flush=True)
    use_keys(config.secret_key)
    database = Database(config.database_url)
    add_users(database, ORGS, config.operator_password)
    with database.transaction() as session:
        add_sample_data(session)
    database.dispose()
    seeded.touch()


def _try_to_migrate(settings: Mapping[str, str]) -> None:
    try:
        migrate(settings)
    except DemoError as error:
        print(f"  {error}", flush=True)

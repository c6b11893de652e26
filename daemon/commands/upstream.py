"""`flotilla upstream`: keep the bot's fork in step with its upstream."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, NoReturn

import click

from daemon.upstream.errors import ExitCode, SyncRefused, UpstreamError
from daemon.upstream.publishing.forges import ForgeSettings
from daemon.upstream.report import scan_lines
from daemon.upstream.repository.git import creating_files_of, open_repository
from daemon.upstream.scan.hosted_mode import CONFIG_NAME, default_text
from daemon.upstream.sync import Mode, SyncOptions, changelog_only, scan_only
from daemon.upstream.sync import sync as sync_fork

_repo_option = click.option(
    "--repo",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="this folder",
    help="A folder in the fork's git checkout.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_rewriter_option = click.option(
    "--rewriter",
    envvar="UPSTREAM_REWRITER",
    help="Command that polishes the user-facing changelog: JSON on standard input, JSON on standard output.",
)


@click.group()
def upstream() -> None:
    """Keep the bot's fork in step with its upstream.

    Exit codes: 0 done, 1 done with findings of the scan, 2 refused, 3 conflict.
    """


@upstream.command()
@_repo_option
@_json_option
@_rewriter_option
@click.option(
    "--dry-run", "mode", flag_value="DRY_RUN", help="Fetch and show what would happen; change no branch and no file."
)
@click.option("--push", "mode", flag_value="PUSH", help="Push the result to the pull request's branch at origin.")
@click.option("--pr", "mode", flag_value="PULL_REQUEST", help="Push, and open or update the pull request.")
def sync(repo: Path, as_json: bool, rewriter: str | None, mode: str | None) -> None:
    """Rebase the fork on upstream, scan it, and write the changelogs.

    The checked-out branch is moved; a backup branch keeps the old one. A pull request needs UPSTREAM_FORGE_TOKEN or
    UPSTREAM_FORGE_TOKEN_FILE. For forges that the URL of origin does not tell, set UPSTREAM_FORGE (github, gitlab or
    gitea) and UPSTREAM_FORGE_API.
    """
    try:
        options = SyncOptions(Mode[mode or "LOCAL"], _command(rewriter), _forge_settings())
        report = sync_fork(repo, options, lambda step: click.echo(f"{step} …", err=True))
    except UpstreamError as error:
        _refuse(error, as_json=as_json)
    _print(report.as_json() if as_json else report.lines())
    raise click.exceptions.Exit(report.exit_code)


@upstream.command()
@_repo_option
@_json_option
def scan(repo: Path, as_json: bool) -> None:
    """Find user interface code that hosted mode must hide."""
    try:
        result = scan_only(repo)
    except UpstreamError as error:
        _refuse(error, as_json=as_json)
    _print(result.as_json() if as_json else scan_lines(result))
    raise click.exceptions.Exit(ExitCode.FINDINGS if result.findings else ExitCode.DONE)


@upstream.command()
@_repo_option
@_json_option
@_rewriter_option
@click.option("--since", metavar="REV", help="Begin after this commit.  [default: the last sync]")
def changelog(repo: Path, as_json: bool, rewriter: str | None, since: str | None) -> None:
    """Write the changelogs of the commits since the last sync into the working tree, without a commit."""
    try:
        written = changelog_only(repo, SyncOptions(rewriter=_command(rewriter)), since)
    except UpstreamError as error:
        _refuse(error, as_json=as_json)
    for warning in written.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        files = {"internal": written.internal_path, "user_facing": written.user_facing_path}
        _print({"version": written.version, "files": files, "changelog": json.loads(written.user_facing)})
    else:
        _print([f"Wrote {written.internal_path} and {written.user_facing_path}."])


@upstream.command()
@_repo_option
def init(repo: Path) -> None:
    """Write hosted-mode.toml with the defaults and comments into the fork."""
    try:
        root = open_repository(repo).root
        with creating_files_of(root), (root / CONFIG_NAME).open("x", encoding="utf-8") as file:
            file.write(default_text())
    except FileExistsError:
        _refuse(SyncRefused(f"{CONFIG_NAME} exists and was not changed."), as_json=False)
    except OSError as error:
        _refuse(SyncRefused(f"{CONFIG_NAME} cannot be written: {error.strerror}."), as_json=False)
    except UpstreamError as error:
        _refuse(error, as_json=False)
    click.echo(f"Wrote {CONFIG_NAME}. Adapt it and commit it.")


def _forge_settings() -> ForgeSettings | None:
    token = os.environ.get("UPSTREAM_FORGE_TOKEN", "")
    if file := os.environ.get("UPSTREAM_FORGE_TOKEN_FILE"):
        try:
            token = Path(file).read_text().strip()
        except OSError as error:
            raise SyncRefused(f"UPSTREAM_FORGE_TOKEN_FILE cannot be read: {error.strerror}.") from error
    if not token:
        return None
    return ForgeSettings(
        token, os.environ.get("UPSTREAM_FORGE") or None, os.environ.get("UPSTREAM_FORGE_API") or None
    )


def _command(rewriter: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(rewriter or ""))
    except ValueError as error:
        raise SyncRefused(f"The rewriter's command cannot be read: {error}.") from error


def _print(result: Any) -> None:
    if isinstance(result, dict):
        click.echo(json.dumps(result, indent=2))
    else:
        for line in result:
            # File names need not be UTF-8.
            click.echo(line.encode("utf-8", "backslashreplace").decode())


def _refuse(error: UpstreamError, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"outcome": "refused", "message": str(error)}, indent=2))
    else:
        click.echo(f"Error: {error}", err=True)
    raise click.exceptions.Exit(error.exit_code)

"""`HostedModeContext`: the words, folders and lists that scan and changelogs share. Used by both and by `init`.

The built-in defaults are the file that `flotilla upstream init` writes. A fork's ``hosted-mode.toml`` overrides them
key by key.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from daemon.upstream.errors import SyncRefused

CONFIG_NAME = "hosted-mode.toml"


@dataclass(frozen=True)
class HostedModeContext:
    """Settings of the fork.

    Attributes:
        upstream_branch: Branch of the remote upstream, or None for its default branch.
        proposal_branch: Branch of origin that the pull request is opened from.
        folders: Folders with user interface code, relative to the top.
        guards: Identifiers that a file uses to ask whether it runs in hosted mode.
        infrastructure_words: Identifiers of infrastructure settings.
        organization_words: Identifiers of organization management.
        ignore: Glob patterns of files that the scan leaves out.
        guarded_children: Glob patterns of files that only guarded parents show.
        aliases: Import prefixes and the folders they stand for.
        excluded_words: Words and phrases that no user-facing item may contain.
        internal_words: Words and phrases that only developers understand.
    """

    upstream_branch: str | None
    proposal_branch: str
    folders: tuple[str, ...]
    guards: tuple[str, ...]
    infrastructure_words: tuple[str, ...]
    organization_words: tuple[str, ...]
    ignore: tuple[str, ...]
    guarded_children: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...]
    excluded_words: tuple[str, ...]
    internal_words: tuple[str, ...]

    @property
    def scan_words(self) -> tuple[str, ...]:
        """All identifiers that the scan searches for."""
        return self.infrastructure_words + self.organization_words


def default_text() -> str:
    """Return the commented file with the built-in defaults."""
    return files("daemon.upstream.scan").joinpath("hosted-mode.default.toml").read_text(encoding="utf-8")


def load(raw: bytes | None) -> HostedModeContext:
    """Read a fork's settings on top of the defaults.

    Args:
        raw: Content of the fork's file, or None if it has none.

    Raises:
        SyncRefused: if the file is not TOML, has an unknown key or a value of the wrong kind.
    """
    defaults = tomllib.loads(default_text())
    try:
        own = tomllib.loads((raw or b"").decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SyncRefused(f"{CONFIG_NAME} is not valid TOML: {error}") from error
    values = {table: _merged(table, default, own.pop(table, {})) for table, default in defaults.items()}
    if own:
        raise SyncRefused(f"{CONFIG_NAME} has an unknown table: {', '.join(sorted(own))}")
    repository, scan, changelog = values["repository"], values["scan"], values["changelog"]
    return HostedModeContext(
        upstream_branch=repository["upstream_branch"] or None,
        proposal_branch=repository["proposal_branch"],
        folders=tuple(folder.strip("/") for folder in scan["folders"]),
        guards=tuple(scan["guards"]),
        infrastructure_words=tuple(scan["infrastructure_words"]),
        organization_words=tuple(scan["organization_words"]),
        ignore=tuple(scan["ignore"]),
        guarded_children=tuple(scan["guarded_children"]),
        aliases=tuple(sorted(scan["aliases"].items())),
        excluded_words=tuple(changelog["excluded_words"]),
        internal_words=tuple(changelog["internal_words"]),
    )


def _merged(table: str, defaults: dict[str, Any], own: object) -> dict[str, Any]:
    if not isinstance(own, dict):
        raise SyncRefused(f"{CONFIG_NAME}: {table} must be a table.")
    for key, value in own.items():
        if key not in defaults:
            raise SyncRefused(f"{CONFIG_NAME} has an unknown key: {table}.{key}")
        _check(f"{table}.{key}", value, defaults[key])
    return defaults | own


def _check(name: str, value: object, default: object) -> None:
    if type(value) is not type(default):
        wanted = "a table of texts" if isinstance(default, dict) else "a list of texts"
        raise SyncRefused(f"{CONFIG_NAME}: {name} must be {'a text' if isinstance(default, str) else wanted}.")
    parts: list[Any] = [value]
    if isinstance(value, dict | list):
        parts = list(value.values() if isinstance(value, dict) else value)
    if not all(isinstance(part, str) and part.isprintable() for part in parts):
        raise SyncRefused(f"{CONFIG_NAME}: {name} must contain texts.")
    if isinstance(value, list) and not all(part.strip() for part in parts):
        raise SyncRefused(f"{CONFIG_NAME}: {name} contains an empty text.")

"""What checks need from the environment in which bots run. `Sandbox` implements it on a Docker engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Stopped:
    """How a bot ended after its stop signal.

    Attributes:
        exit_code: exit status of its main process.
        signal: number of the stop signal.
        killed: whether it still ran after its grace period and was killed.
    """

    exit_code: int
    signal: int
    killed: bool


class RunningBot(Protocol):
    """A bot that was started."""

    def address(self) -> str | None:
        """Return `host:port`, or None while the bot has no address."""

    def problem(self) -> str | None:
        """Say why the bot does not run, or None while it runs."""

    def log_tail(self) -> str:
        """Return the last lines of its output."""

    def changed_paths(self) -> Sequence[str]:
        """Return the paths that were written outside of its volumes."""

    def stop(self) -> Stopped:
        """Send the stop signal, wait for the grace period, then kill."""

    def kill(self) -> None:
        """End the bot with SIGKILL."""


class Lab(Protocol):
    """Starts bots. A set of volumes is named by an opaque text."""

    def create_volumes(self) -> str:
        """Create empty volumes for a bot."""

    def copy_volumes(self, volumes: str, image: str) -> str:
        """Copy the volumes of a stopped bot of an image."""

    def start(self, image: str, volumes: str, environment: Mapping[str, str]) -> RunningBot:
        """Start a bot on volumes that no other bot uses."""

    def read_changelog(self, image: str) -> dict[str, Any] | None:
        """Return the parsed changelog of an image, or None without one.

        Raises:
            InvalidChangelog: it violates the format.
        """

    def list_declared_volumes(self, image: str) -> Sequence[str]:
        """Return the paths that an image declares as volumes."""

"""Errors and exit codes of `flotilla upstream`. Used by the whole package."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `flotilla upstream`, for scripts and the nightly job."""

    DONE = 0
    FINDINGS = 1
    REFUSED = 2
    CONFLICT = 3


class UpstreamError(Exception):
    """Base of the errors that end a command with one line and an exit code."""

    exit_code = ExitCode.REFUSED


class SyncRefused(UpstreamError):
    """The repository or the input does not allow the command. The message says what to do."""


class GitFailed(UpstreamError):
    """A git command failed. The message holds git's own words without credentials.

    Args:
        command: The git subcommand, such as ``fetch``.
        detail: What git printed.
        returncode: Git's exit code.
    """

    def __init__(self, command: str, detail: str, returncode: int) -> None:
        super().__init__(f"git {command} failed: {detail or f'exit code {returncode}'}")
        self.command = command
        self.detail = detail
        self.returncode = returncode

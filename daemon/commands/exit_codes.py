"""Errors of commands, one for each exit code. Used by `daemon.cli` and the translation of errors."""

from __future__ import annotations

import click


class Refused(click.ClickException):
    """The input is valid, but the operation is not possible or not allowed."""

    exit_code = 1


class BadInput(click.ClickException):
    """The input is invalid. Nothing was changed."""

    exit_code = 2

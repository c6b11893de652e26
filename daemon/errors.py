"""Base class of errors in updates, snapshots and engine calls. Used by the whole daemon package."""

from __future__ import annotations


class OperationFailed(Exception):
    """An operation on a bot or its node failed. The message tells an operator what happened and what to do.

    Attributes:
        transient: True when neither the release nor the bot can be the cause (engine unreachable, disk full), so
            that the same update may be tried again later.
    """

    transient = False

    def __init__(self, message: str, *, transient: bool | None = None) -> None:
        super().__init__(message)
        if transient is not None:
            self.transient = transient


class EngineTrouble(OperationFailed):
    """The Docker engine of a node, or the disk of a node, did not do its work. A repetition may succeed.

    It says nothing about a release, a bot or its data, so it is never counted against a release.
    """

    transient = True

"""How an update of a bot can fail."""

from __future__ import annotations


class OperationFailed(Exception):
    """A step of an update went wrong; the text is for the operator and says what to do.

    Attributes:
        transient: True when the cause cannot lie in the release or the bot (engine unreachable, disk full …), so
            that the same update may simply be tried again later.
    """

    transient = False

    def __init__(self, message: str, *, transient: bool | None = None) -> None:
        super().__init__(message)
        if transient is not None:
            self.transient = transient

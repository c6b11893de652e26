"""How a call to a bot can fail. Raised by the provision client and its transport.

The messages are reasons in words for operators. They never quote an answer, because a bot may repeat a secret in it.
"""

from __future__ import annotations


class CallFailed(Exception):
    """A call that did not succeed. It may be repeated."""


class NoAnswerError(CallFailed):
    """The bot gave no answer in time. Other calls to it will probably get none, either."""


class BadAnswerError(CallFailed):
    """The bot answered, but not as the protocol says."""


class RefusedError(CallFailed):
    """The bot refused the call (401, 404 or 422). A repetition will be refused until something changes.

    Args:
        reason: for display.
        status: the HTTP status.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class StaleError(CallFailed):
    """The bot knows a newer version of the member (409)."""

"""What can go wrong between the gateway and a bot. Used by the client for bots and by who calls it."""

from __future__ import annotations


class BotUnreachable(Exception):
    """The bot has not received the request, or the request can be repeated without harm.

    Args:
        was_sent: whether the bot may have received the request.
    """

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__("the bot does not answer")
        self.was_sent = was_sent


class ConnectionClosed(Exception):
    """The bot may have received the request, and closed the connection before its response."""


class RequestIncomplete(Exception):
    """The client has not sent the whole body, and the bot has not answered."""


class BadResponse(Exception):
    """The bot has received the request, but its response cannot be forwarded."""


class BotTooSlow(Exception):
    """The bot has not answered in time."""

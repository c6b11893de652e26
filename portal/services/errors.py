"""What can go wrong in a service, in types that views, jobs and commands turn into answers."""

from __future__ import annotations


class ServiceError(Exception):
    """A request that cannot be carried out. The text is for the person who asked and says what to do."""


class NotFoundError(ServiceError):
    """There is no such thing, or the one who asks may not know of it."""


class ForbiddenError(ServiceError):
    """The one who asks knows the thing but lacks the role for this."""


class InvalidError(ServiceError):
    """The input makes no sense.

    Args:
        message: what is wrong and what to do.
        field: name of the form field it belongs to, where there is one.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ConflictError(ServiceError):
    """Somebody else was faster, or the state does not allow it (any more)."""


class StaleError(ConflictError):
    """The row was changed since the form was opened: show it as it is now and let the person decide again."""

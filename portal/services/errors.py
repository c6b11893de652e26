"""Errors of services. Views turn them into pages, jobs and commands into messages."""

from __future__ import annotations

from collections.abc import Mapping


class ServiceError(Exception):
    """A request that cannot be carried out.

    Args:
        message: what is wrong and what to do, for every user.
        for_operators: the message for operators, where it names settings, hosts, paths or reasons that customers must
            not read. By default the same.
    """

    def __init__(self, message: str, *, for_operators: str | None = None) -> None:
        super().__init__(message)
        self.for_operators = for_operators or message


class NotFoundError(ServiceError):
    """The resource does not exist, or the user may not know that it exists."""


class ForbiddenError(ServiceError):
    """The user may see the resource but has no permission for the action."""


class InvalidError(ServiceError):
    """The input is invalid.

    Args:
        message: what is wrong and what to do.
        field: name of the form field with the invalid value, where there is one.
        for_operators: see `ServiceError`.
    """

    def __init__(self, message: str, field: str | None = None, *, for_operators: str | None = None) -> None:
        super().__init__(message, for_operators=for_operators)
        self.field = field


class InvalidFieldsError(InvalidError):
    """Several fields are invalid.

    Args:
        problems: what is wrong and what to do, by the name of the field.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        lines = (f"{field.replace('_', ' ')}: {problem}" for field, problem in problems.items())
        super().__init__("\n".join(lines), next(iter(problems)))
        self.problems = dict(problems)


class ConflictError(ServiceError):
    """The state of the resource does not allow the action, or another user was faster."""


class StaleError(ConflictError):
    """Another user changed the resource after the form was opened. Show the current values and ask again."""

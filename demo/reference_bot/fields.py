"""The fields of a JSON request: read, check, and name the one that is wrong. Used by the provision protocol."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

LARGEST_NUMBER = 2**53 - 1
"""Larger numbers lose digits in some JSON readers."""
_UNUSABLE_CATEGORIES = ("Cc", "Cs")
"""Control characters, and lone surrogates, which JSON can express and UTF-8 cannot."""


class InvalidField(ValueError):
    """A field is missing or wrong.

    Attributes:
        field: path of the field, such as `user.email`; empty for the whole body.
    """

    def __init__(self, field: str, problem: str) -> None:
        """Describe the problem as a predicate, such as `must be a string`."""
        super().__init__(f"{field or 'the body'} {problem}")
        self.field = field


class Fields:
    """The fields of a JSON object. Unknown fields are ignored, so that newer platforms can send more."""

    def __init__(self, content: Mapping[str, Any], parent: str = "") -> None:
        """Read from `content`; `parent` is the path of the object within the body."""
        self._content = content
        self._parent = parent

    def read_text(self, name: str, longest: int = 200, *, may_be_empty: bool = False) -> str:
        """Return a text of one line.

        Args:
            name: name of the field.
            longest: largest number of characters.
            may_be_empty: whether the empty text is allowed.

        Raises:
            InvalidField: the field is missing, no text, empty, too long, or contains control characters.
        """
        value = self._read(name)
        if not isinstance(value, str):
            self._refuse(name, "must be a string")
        if not (value.strip() or may_be_empty):
            self._refuse(name, "must not be empty")
        if len(value) > longest:
            self._refuse(name, f"must have at most {longest} characters")
        if any(unicodedata.category(character) in _UNUSABLE_CATEGORIES for character in value):
            self._refuse(name, "must contain no control characters")
        return value

    def read_choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return one of several texts.

        Raises:
            InvalidField: the field is missing or has another value.
        """
        value = self._read(name)
        if not isinstance(value, str) or value not in choices:
            self._refuse(name, f"must be one of {', '.join(choices)}")
        return value

    def is_null(self, name: str) -> bool:
        """Whether the field is null; a missing field is not.

        Raises:
            InvalidField: the field is missing.
        """
        return self._read(name) is None

    def read_number(self, name: str, smallest: int = 0) -> int:
        """Return a whole number.

        Raises:
            InvalidField: the field is missing, too small, too large or no whole number.
        """
        value = self._read(name)
        if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= LARGEST_NUMBER:
            self._refuse(name, f"must be a whole number from {smallest} to {LARGEST_NUMBER}")
        return value

    def read_optional_number(self, name: str, smallest: int = 0) -> int | None:
        """Return a whole number, or None if the field is missing or null.

        Raises:
            InvalidField: the field has another value.
        """
        return None if self._content.get(name) is None else self.read_number(name, smallest)

    def read_object(self, name: str) -> Fields:
        """Return the fields of an object.

        Raises:
            InvalidField: the field is missing or no object.
        """
        value = self._read(name)
        if not isinstance(value, dict):
            self._refuse(name, "must be an object")
        return Fields(value, f"{self._path(name)}.")

    def check_optional(self, name: str, kind: type, description: str) -> None:
        """Check the type of a field unless it is missing or null.

        Raises:
            InvalidField: the field has another type.
        """
        value = self._content.get(name)
        if value is not None and not isinstance(value, kind):
            self._refuse(name, f"must be {description}")

    def _read(self, name: str) -> Any:
        if name not in self._content:
            self._refuse(name, "is missing")
        return self._content[name]

    def _path(self, name: str) -> str:
        return f"{self._parent}{name}"

    def _refuse(self, name: str, problem: str) -> NoReturn:
        raise InvalidField(self._path(name), problem)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request's body.

    Raises:
        InvalidField: the body is no JSON object.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidField("", "must be JSON") from None
    if not isinstance(content, dict):
        raise InvalidField("", "must be a JSON object")
    return content

"""The form all others come from: it says in plain words what to do about an input that makes no sense."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flask_wtf import FlaskForm

_PLAIN = (
    (r"Not a valid (integer|decimal|float) value\.?", "Enter a whole number."),
    (r"Not a valid choice\.?", "Choose one of those offered."),
    (r"'(?P<value>.*)' is not a valid choice for this field\.?", "“{value}” is not offered; choose again."),
    (r"Invalid Choice: could not coerce\.?", "Choose one of those offered."),
    (r"Field cannot be longer than (?P<most>\d+) characters?\.?", "Use at most {most} characters."),
    (r"Field must be at least (?P<least>\d+) characters? long\.?", "Use at least {least} characters."),
    (r"This field is required\.?", "Fill this in."),
)


class Form(FlaskForm):  # type: ignore[misc]  # the library has no types
    """A form with its protection against forgery, and messages for people."""

    def validate(self, extra_validators: Any = None) -> bool:
        """Check every field; what the library says of a wrong one is put in words that say what to do."""
        valid = bool(super().validate(extra_validators=extra_validators))
        for field in self:
            field.errors = _in_plain_words(field.errors)
        return valid


def stripped(text: str | None) -> str | None:
    """A filter: without the blanks around it, which come along when people paste."""
    return text.strip() if text else text


def _in_plain_words(errors: Sequence[Any]) -> list[Any]:
    return [_plain(error) if isinstance(error, str) else error for error in errors]


def _plain(error: str) -> str:
    for pattern, words in _PLAIN:
        if found := re.fullmatch(pattern, error, re.DOTALL):
            return words.format(**found.groupdict())
    return error

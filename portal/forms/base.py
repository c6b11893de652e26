"""Base class of all forms, with error messages that say what to enter. Used by every form of the portal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flask import current_app
from flask_wtf import FlaskForm
from wtforms import StringField
from wtforms.validators import InputRequired, Length, ValidationError

from portal.rules import display_names
from portal.settings import Settings

_PLAIN_MESSAGES = (
    (r"Not a valid (integer|decimal|float) value\.?", "Enter a whole number."),
    (r"Not a valid choice\.?", "Choose one of the options."),
    (r"'(?P<value>.*)' is not a valid choice for this field\.?", "“{value}” is not an option. Choose another one."),
    (r"Invalid Choice: could not coerce\.?", "Choose one of the options."),
    (r"Field cannot be longer than (?P<most>\d+) characters?\.?", "Use at most {most} characters."),
    (r"Field must be at least (?P<least>\d+) characters? long\.?", "Use at least {least} characters."),
    (r"This field is required\.?", "Fill in this field."),
)
"""Messages of WTForms as patterns, and the messages that replace them."""


class Form(FlaskForm):  # type: ignore[misc]  # the library has no types
    """A form with CSRF protection and plain error messages."""

    def validate(self, extra_validators: Any = None) -> bool:
        """Validate every field and replace the library's error messages."""
        is_valid = bool(super().validate(extra_validators=extra_validators))
        for field in self:
            field.errors = _replace_messages(field.errors)
        return is_valid


def strip_whitespace(text: str | None) -> str | None:
    """Remove surrounding whitespace, which pasted text often has. A WTForms filter."""
    return text.strip() if text else text


def name_field(label: str, missing: str) -> StringField:
    """Return the field for the name of a person or an organization.

    Args:
        label: the label.
        missing: the error message for an empty field.
    """
    validators = [InputRequired(missing), Length(max=display_names.MAX_LENGTH), _refuse_product_name]
    return StringField(label, filters=[strip_whitespace], validators=validators)


def _refuse_product_name(_form: Form, field: StringField) -> None:
    """Refuse names that imitate the product, because mails show them to people who know only the product."""
    settings: Settings = current_app.extensions["settings"]
    if display_names.imitates(field.data, settings.product_name):
        raise ValidationError(f"A name cannot contain “{settings.product_name}”. Choose another name.")


def _replace_messages(errors: Sequence[Any]) -> list[Any]:
    return [_replace_message(error) if isinstance(error, str) else error for error in errors]


def _replace_message(error: str) -> str:
    for pattern, message in _PLAIN_MESSAGES:
        if found := re.fullmatch(pattern, error, re.DOTALL):
            return message.format(**found.groupdict())
    return error

"""Forms about releases, and the reason that operators give for what they do."""

from __future__ import annotations

from typing import Any

from wtforms import StringField
from wtforms.validators import DataRequired, InputRequired, Length, ValidationError

from portal.forms.base import Form, stripped


class DigestForm(Form):
    """A digest to look up."""

    reference = StringField(
        "Image with digest",
        validators=[InputRequired("Paste registry/repository@sha256:…"), Length(max=300)],
        filters=[stripped],
    )


class ReasonForm(Form):
    """Why a release is quarantined or allowed again, or what was done about a bot."""

    reason = StringField(
        "Reason",
        validators=[DataRequired("Say why; people will read it."), Length(max=500)],
        filters=[stripped],
    )


class RollBackForm(Form):
    """Bringing the whole fleet back to a release, confirmed by typing its version.

    Args:
        version: what has to be typed; not needed to show the form.
    """

    why = StringField(
        "Reason", validators=[DataRequired("Say why; people will read it."), Length(max=500)], filters=[stripped]
    )
    typed = StringField(
        "Version", validators=[InputRequired("Type the version to confirm."), Length(max=100)], filters=[stripped]
    )

    def __init__(self, *values: Any, version: str | None = None) -> None:
        super().__init__(*values)
        self._version = version

    def validate_typed(self, field: StringField) -> None:
        """Nobody does this by a slip of the hand."""
        if field.data != self._version:
            raise ValidationError(f"Type {self._version} to confirm.")

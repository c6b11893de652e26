"""Forms about releases, and the form for an operator's reason. Used by the pages of releases and bots."""

from __future__ import annotations

from typing import Any

from wtforms import StringField
from wtforms.validators import DataRequired, InputRequired, Length, ValidationError

from portal.forms.base import Form, strip_whitespace


class DigestForm(Form):
    """Look up a release by its digest."""

    reference = StringField(
        "Image with digest",
        validators=[InputRequired("Paste an image with its digest: registry/repository@sha256:…"), Length(max=300)],
        filters=[strip_whitespace],
    )


class ReasonForm(Form):
    """Give the reason for a quarantine or its end, or say how a bot was fixed."""

    reason = StringField(
        "Reason",
        validators=[DataRequired("Enter a reason."), Length(max=500)],
        filters=[strip_whitespace],
    )


class RollBackForm(Form):
    """Roll the whole fleet back to a release, confirmed by typing its version.

    Args:
        version: the version that must be typed; not needed to show the form.
    """

    why = StringField(
        "Reason", validators=[DataRequired("Enter a reason."), Length(max=500)], filters=[strip_whitespace]
    )
    typed = StringField(
        "Version",
        validators=[InputRequired("Type the version to confirm."), Length(max=100)],
        filters=[strip_whitespace],
    )

    def __init__(self, *values: Any, version: str | None = None) -> None:
        super().__init__(*values)
        self._version = version

    def validate_typed(self, field: StringField) -> None:
        """Require the exact version, so that no fleet is rolled back by accident."""
        if field.data != self._version:
            raise ValidationError(f"Type {self._version} to confirm.")

"""Forms about releases."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import StringField
from wtforms.validators import InputRequired, Length


class DigestForm(FlaskForm):  # type: ignore[misc]  # the library has no types
    """A digest to look up."""

    reference = StringField(
        "Image with digest",
        validators=[InputRequired("Paste registry/repository@sha256:…"), Length(max=300)],
        filters=[lambda text: text.strip() if text else text],
    )


class ReasonForm(FlaskForm):  # type: ignore[misc]
    """Why a release is quarantined, or allowed again."""

    reason = StringField(
        "Reason",
        validators=[InputRequired("Say why; people will read it."), Length(max=500)],
        filters=[lambda text: text.strip() if text else text],
    )

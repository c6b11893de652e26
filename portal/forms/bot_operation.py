"""Form for starting, stopping and restarting a bot. Used by the page of a bot."""

from __future__ import annotations

from wtforms import StringField
from wtforms.validators import Length

from portal.forms.base import Form, strip_whitespace


class OperationForm(Form):
    """Start, stop or restart a bot, with an optional reason."""

    reason = StringField("Reason", validators=[Length(max=200)], filters=[strip_whitespace])

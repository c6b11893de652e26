"""Forms about invites."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import EmailField, SelectChoice, SelectField
from wtforms.validators import InputRequired

from portal.forms.auth import mailable, stripped

_ROLES = [
    SelectChoice("member", "member: uses the bots"),
    SelectChoice("admin", "admin: manages bots and team too"),
]


class InviteForm(FlaskForm):  # type: ignore[misc]  # the library has no types
    """Whom to invite as what."""

    email = EmailField("Email", filters=[stripped], validators=[InputRequired("Enter an address."), mailable])
    role = SelectField("Role", choices=_ROLES)

"""Forms about invites."""

from __future__ import annotations

from wtforms import EmailField, SelectChoice, SelectField
from wtforms.validators import InputRequired

from portal.forms.auth import mailable
from portal.forms.base import Form, stripped

_ROLES = [
    SelectChoice("member", "member: uses the bots"),
    SelectChoice("admin", "admin: manages bots and team too"),
]


class InviteForm(Form):
    """Whom to invite as what."""

    email = EmailField("Email", filters=[stripped], validators=[InputRequired("Enter an address."), mailable])
    role = SelectField("Role", choices=_ROLES)

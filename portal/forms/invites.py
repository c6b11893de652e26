"""Form of an invite. Used by the team page."""

from __future__ import annotations

from wtforms import EmailField, SelectChoice, SelectField
from wtforms.validators import InputRequired

from portal.forms.auth import validate_email
from portal.forms.base import Form, strip_whitespace
from portal.rules.roles import ASSIGNABLE_ROLES, ROLES, MembershipRole

_ROLE_CHOICES = [
    SelectChoice(str(role), f"{ROLES[role].label}: {ROLES[role].description}") for role in ASSIGNABLE_ROLES
]


class InviteForm(Form):
    """Invite an email address with a role."""

    email = EmailField(
        "Email", filters=[strip_whitespace], validators=[InputRequired("Enter an email address."), validate_email]
    )
    role = SelectField("Role", choices=_ROLE_CHOICES, default=str(MembershipRole.MEMBER))

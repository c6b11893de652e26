"""Forms of invites: one email, or several. Used by the team page."""

from __future__ import annotations

from wtforms import EmailField, SelectChoice, SelectField, TextAreaField
from wtforms.validators import InputRequired, Length, ValidationError

from portal.forms.auth import validate_email
from portal.forms.base import Form, strip_whitespace
from portal.rules.email_lists import split_addresses
from portal.rules.roles import ASSIGNABLE_ROLES, ROLES, MembershipRole

_ROLE_CHOICES = [
    SelectChoice(str(role), f"{ROLES[role].label}: {ROLES[role].description}") for role in ASSIGNABLE_ROLES
]

MOST_AT_ONCE = 50
"""Number of emails in one form. It is also the daily limit of an organization."""


class InviteForm(Form):
    """Invite an email address with a role."""

    email = EmailField(
        "Email", filters=[strip_whitespace], validators=[InputRequired("Enter an email address."), validate_email]
    )
    role = SelectField("Role", choices=_ROLE_CHOICES, default=str(MembershipRole.MEMBER))


class BulkInviteForm(Form):
    """Invite several people with the same role."""

    addresses = TextAreaField("Emails", validators=[InputRequired("Enter at least one email."), Length(max=20_000)])
    role = SelectField("Role", choices=_ROLE_CHOICES, default=str(MembershipRole.MEMBER))

    def list_addresses(self) -> list[str]:
        """List the emails, each once and unchecked."""
        return split_addresses(self.addresses.data or "")

    def validate_addresses(self, _field: TextAreaField) -> None:
        """Check the number of emails. WTForms calls this method by its name."""
        found = len(self.list_addresses())
        if found == 0:
            raise ValidationError("Enter at least one email.")
        if found > MOST_AT_ONCE:
            raise ValidationError(f"These are {found} emails. Invite at most {MOST_AT_ONCE} people at once.")

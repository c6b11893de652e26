"""Forms about organizations: create, rename, update preferences, transfer, delete, roles. Used by org pages."""

from __future__ import annotations

from wtforms import IntegerField, PasswordField, RadioField, SelectChoice, SelectField, StringField
from wtforms.validators import InputRequired, Length
from wtforms.widgets import HiddenInput

from portal.forms.base import Form, name_field, strip_whitespace
from portal.models import TenantMode
from portal.rules.roles import ASSIGNABLE_ROLES, ROLES

_MODE_LABELS = {
    TenantMode.AUTO: "Automatic, at the hour below",
    TenantMode.MANUAL: "Manual: we notify you; you start it",
}

HOURS = [SelectChoice(hour, f"{hour:02}:00 UTC") for hour in range(24)]
"""Choices of an hour of the day."""

ROLE_CHOICES = [SelectChoice(str(role), ROLES[role].label) for role in ASSIGNABLE_ROLES]
"""Choices of the role of a member."""


class VersionedForm(Form):
    """A form that carries the version of the row it shows. A form with an old version is refused and shown again."""

    version = IntegerField(widget=HiddenInput(), validators=[InputRequired("Reload the page and try again.")])


class NewOrgForm(Form):
    """Create an organization."""

    name = name_field("Name", "Enter a name.")
    slug = StringField("URL name", validators=[Length(max=48)], filters=[strip_whitespace])


class RenameForm(VersionedForm):
    """Rename an organization."""

    name = name_field("Name", "Enter a name.")


class UpdatesForm(VersionedForm):
    """Set the update preferences of an organization."""

    mode = RadioField("Updates", choices=[SelectChoice(str(mode), label) for mode, label in _MODE_LABELS.items()])
    hour = SelectField("Preferred hour", coerce=int, choices=HOURS)


class LiftForm(VersionedForm):
    """Return control of the update preferences to the organization."""


class TransferForm(Form):
    """Choose the new owner of an organization, and confirm with the owner's password."""

    user_id = SelectField("New owner", validators=[InputRequired("Choose a member.")])
    password = PasswordField("Your password", validators=[InputRequired("Enter your password."), Length(max=1024)])


class DeleteForm(Form):
    """Confirm the deletion of an organization with its name and the owner's password."""

    name = StringField("Name of the organization", validators=[InputRequired("Enter the name."), Length(max=100)])
    password = PasswordField("Your password", validators=[InputRequired("Enter your password."), Length(max=1024)])


class RoleForm(VersionedForm):
    """Change the role of a member."""

    role = SelectField("Role", choices=ROLE_CHOICES)


class RemovalForm(VersionedForm):
    """Confirm the removal of a member."""

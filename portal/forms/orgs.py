"""Forms about organizations."""

from __future__ import annotations

from wtforms import IntegerField, PasswordField, RadioField, SelectChoice, SelectField, StringField
from wtforms.validators import InputRequired, Length
from wtforms.widgets import HiddenInput

from portal.forms.base import Form, stripped
from portal.models import MembershipRole, TenantMode

_MODES = {
    TenantMode.AUTO: "Automatic: your bots are updated by themselves, in the hour below",
    TenantMode.MANUAL: "By hand: you see a badge and get an email, and press the button when it suits you",
}

HOURS = [SelectChoice(hour, f"{hour:02}:00 UTC") for hour in range(24)]
"""The hours of the day, to choose one of them."""


class SeenForm(Form):
    """A form about a row as somebody saw it: one that was changed meanwhile is shown again instead."""

    version = IntegerField(widget=HiddenInput(), validators=[InputRequired("Reload the page and try again.")])


class NewOrgForm(Form):
    """A new organization."""

    name = StringField("Name", validators=[InputRequired("Give it a name."), Length(max=100)], filters=[stripped])
    slug = StringField("Address", validators=[Length(max=48)], filters=[stripped])


class RenameForm(SeenForm):
    """Another name."""

    name = StringField("Name", validators=[InputRequired("Give it a name."), Length(max=100)], filters=[stripped])


class UpdatesForm(SeenForm):
    """How an organization wants its updates."""

    mode = RadioField("Updates", choices=[SelectChoice(str(mode), label) for mode, label in _MODES.items()])
    hour = SelectField(
        "Preferred hour",
        coerce=int,
        choices=HOURS,
    )


class LiftForm(SeenForm):
    """Letting the organization decide about its updates again."""


class TransferForm(Form):
    """Whom the organization is to belong to."""

    user_id = SelectField("New owner", validators=[InputRequired("Choose somebody.")])


class DeleteForm(Form):
    """The owner's password again, and the organization's name."""

    name = StringField("Name of the organization", validators=[InputRequired("Type its name."), Length(max=100)])
    password = PasswordField("Your password", validators=[InputRequired("Enter your password."), Length(max=1024)])


class RoleForm(SeenForm):
    """Another role for a member."""

    role = SelectField("Role", choices=[SelectChoice(str(role), str(role)) for role in MembershipRole])


class RemovalForm(SeenForm):
    """Which member."""

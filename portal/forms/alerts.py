"""Forms about alert channels: add and change. Used by the operators' pages of alerts."""

from __future__ import annotations

from wtforms import PasswordField, SelectChoice, SelectField, SelectMultipleField, StringField
from wtforms.validators import InputRequired, Length
from wtforms.widgets import CheckboxInput, ListWidget

from portal.forms.base import Form, strip_whitespace
from portal.forms.orgs import VersionedForm
from portal.models import AlertFormat
from portal.rules import alert_events

FORMAT_LABELS = {
    AlertFormat.JSON: "Signed JSON (Standard Webhooks)",
    AlertFormat.SLACK: "Slack",
    AlertFormat.MATTERMOST: "Mattermost",
    AlertFormat.DISCORD: "Discord",
    AlertFormat.MATRIX: "Matrix (webhook of Hookshot)",
    AlertFormat.NTFY: "ntfy",
}
"""What receivers understand, as operators read it."""

_FITS = Length(max=2000)


def _events_field() -> SelectMultipleField:
    """Return checkboxes for the events of `alert_events.LABELS`."""
    labels = [choice for group in alert_events.LABELS.values() for choice in group.items()]
    return SelectMultipleField(
        "Events",
        choices=[SelectChoice(tag, label) for tag, label in labels],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )


def _name_field() -> StringField:
    return StringField(
        "Name", validators=[InputRequired("Enter a name."), Length(max=100)], filters=[strip_whitespace]
    )


class NewChannelForm(Form):
    """Add a channel."""

    name = _name_field()
    format = SelectField("Format", choices=[SelectChoice(str(kind), label) for kind, label in FORMAT_LABELS.items()])
    url = StringField("URL", validators=[InputRequired("Enter a URL."), _FITS], filters=[strip_whitespace])
    secret = PasswordField("Access token (only ntfy)", validators=[Length(max=500)], filters=[strip_whitespace])
    tags = _events_field()


class ChannelForm(VersionedForm):
    """Change a channel. The URL and the access token can be replaced, but are not shown."""

    name = _name_field()
    # Typed like a password, because everyone who knows the URL of a chat can write to it.
    url = PasswordField("New URL", validators=[_FITS], filters=[strip_whitespace])
    secret = PasswordField("New access token", validators=[Length(max=500)], filters=[strip_whitespace])
    tags = _events_field()


class PauseForm(VersionedForm):
    """Pause or resume a channel, or replace its signing secret."""

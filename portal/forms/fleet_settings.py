"""Form with the settings of the fleet, and the labels of its modes. Used by the pages of operators."""

from __future__ import annotations

from wtforms import BooleanField, IntegerField, RadioField, SelectChoice, SelectField, StringField
from wtforms.validators import InputRequired, Length
from wtforms.widgets import HiddenInput

from portal.forms.orgs import HOURS
from portal.forms.rollouts import StrategyForm
from portal.models import FleetMode, TenantMode

FLEET_MODES = {
    FleetMode.AUTO: "Automatic: organizations on automatic update are updated at their chosen hour",
    FleetMode.MANUAL: "Manual: a bot is updated only when a person starts its update",
    FleetMode.PAUSED: "Paused: no update starts; updates in progress finish",
}
"""Label of each mode of the fleet."""

TENANT_MODE_CHOICES = [
    SelectChoice(TenantMode.AUTO.value, "Automatic, at the hour below"),
    SelectChoice(TenantMode.MANUAL.value, "Manual: we notify the organization, which starts the update"),
]
"""Update modes of an organization with their labels, as operators read them."""


class FleetForm(StrategyForm):
    """Edit the mode of the fleet, its automatic rollouts, and the defaults for organizations."""

    mode = RadioField("Mode", choices=[SelectChoice(str(mode), label) for mode, label in FLEET_MODES.items()])
    max_parallel = IntegerField("Parallel updates per node", validators=[InputRequired("Enter a number.")])
    tenant_mode = RadioField("Updates", choices=TENANT_MODE_CHOICES)
    tenant_hour_utc = SelectField("Preferred hour", coerce=int, choices=HOURS)
    members_read_logs = BooleanField("Members read the logs of their bots")
    secret_variables = StringField("Variables with secrets", validators=[Length(max=2000)])
    version = IntegerField(widget=HiddenInput(), validators=[InputRequired("Reload the page and try again.")])

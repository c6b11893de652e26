"""The form about the fleet as a whole."""

from __future__ import annotations

from wtforms import IntegerField, RadioField, SelectChoice, SelectField
from wtforms.validators import InputRequired
from wtforms.widgets import HiddenInput

from portal.forms.orgs import HOURS
from portal.forms.rollouts import StrategyForm
from portal.models import FleetMode, TenantMode

_MODES = {
    FleetMode.AUTO: "Automatic: organizations that want it are updated in their hour",
    FleetMode.MANUAL: "Manual: nothing is updated unless somebody asks",
    FleetMode.PAUSED: "Paused: no update starts; bots in flight finish",
}
_TENANT_MODES = {
    TenantMode.AUTO: "Automatic, in the hour below",
    TenantMode.MANUAL: "By hand: they get a badge and an email",
}


class FleetForm(StrategyForm):
    """Everything that operators set for the whole fleet."""

    mode = RadioField("Mode", choices=[SelectChoice(str(mode), label) for mode, label in _MODES.items()])
    max_parallel = IntegerField("Side by side", validators=[InputRequired("Say how many.")])
    tenant_mode = RadioField(
        "Updates", choices=[SelectChoice(str(mode), label) for mode, label in _TENANT_MODES.items()]
    )
    tenant_hour_utc = SelectField("Preferred hour", coerce=int, choices=HOURS)
    version = IntegerField(widget=HiddenInput(), validators=[InputRequired("Reload the page and try again.")])

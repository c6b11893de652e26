"""Forms about rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wtforms import (
    BooleanField,
    IntegerField,
    RadioField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.validators import DataRequired, InputRequired, Length, Optional

from portal.forms.base import Form
from portal.models import Audience, StrategyName
from portal.rules.strategies import DEFAULTS, STRATEGIES

_STRATEGIES = {
    StrategyName.ROLLING_WAVE: "Rolling wave: a canary first, then a share of the fleet at a time",
    StrategyName.SINGLE_BOT: "One bot after another, without a pause",
    StrategyName.IMMEDIATE: "Immediate: all at once, for an emergency fix",
}
_AUDIENCES = {
    Audience.AUTOMATIC: "Organizations in automatic mode",
    Audience.ALL: "Every bot that is behind, whatever its organization chose",
    Audience.NAMED: "Only the bots chosen below",
}


def _choices(labels: Mapping[Any, str]) -> list[SelectChoice]:
    return [SelectChoice(str(value), label) for value, label in labels.items()]


class StrategyForm(Form):
    """How a rollout walks through its bots."""

    strategy = RadioField("Strategy", choices=_choices(_STRATEGIES), default=StrategyName.ROLLING_WAVE)
    canary = IntegerField("Canaries", default=DEFAULTS["canary"])
    percentage = IntegerField("Wave, in percent", default=DEFAULTS["percentage"])
    pause_seconds = IntegerField("Pause, in seconds", default=DEFAULTS["pause_seconds"])
    failure_threshold = IntegerField("Abort at failures", default=DEFAULTS["failure_threshold"])
    max_retries = IntegerField("Retries", default=DEFAULTS["max_retries"])

    def parameters(self) -> dict[str, Any]:
        """The parameters that matter to the chosen strategy, as entered."""
        return {name: self[name].data for name in STRATEGIES[self.strategy.data].uses}


class RolloutForm(StrategyForm):
    """What to roll out, to whom, and how."""

    release = SelectField("Release", validators=[InputRequired("Choose a release.")])
    audience = RadioField("Who", choices=_choices(_AUDIENCES), default=Audience.AUTOMATIC)
    bots = SelectMultipleField("Bots", validators=[Optional()])
    ignore_windows = BooleanField("Start now, whatever hour an organization prefers")


class AbortForm(Form):
    """Why a rollout ends, and whether its release is to blame."""

    reason = StringField("Why", validators=[DataRequired("Say why; people will read it."), Length(max=500)])
    quarantine = BooleanField("The release is bad: quarantine it, so that nobody rolls it out again")

"""Forms to start and abort rollouts. Used by the pages of rollouts and of the fleet's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wtforms import (
    BooleanField,
    Field,
    IntegerField,
    RadioField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.validators import DataRequired, InputRequired, Length, Optional

from portal.forms.base import Form
from portal.models import Audience
from portal.rules.strategies import PARAMETERS, STRATEGIES, StrategyName

_AUDIENCES = {
    Audience.AUTOMATIC: "Organizations on automatic update",
    Audience.ALL: "All outdated bots",
    Audience.NAMED: "Only the bots selected below",
}


def _choices(labels: Mapping[Any, str]) -> list[SelectChoice]:
    return [SelectChoice(str(value), label) for value, label in labels.items()]


class StrategyForm(Form):
    """Choose the strategy of a rollout and its parameters."""

    strategy = RadioField(
        "Strategy",
        choices=_choices({name: strategy.label for name, strategy in STRATEGIES.items()}),
        default=StrategyName.ROLLING_WAVE,
    )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the chosen strategy uses, as entered."""
        return {name: self[name].data for name in STRATEGIES[self.strategy.data].uses}

    def parameter_fields(self) -> list[tuple[Field, list[str]]]:
        """List the field of each parameter with the names of the strategies that use the parameter."""
        return [
            (self[name], [strategy for strategy, kind in STRATEGIES.items() if name in kind.uses])
            for name in PARAMETERS
        ]


for _name, _parameter in PARAMETERS.items():
    setattr(
        StrategyForm,
        _name,
        IntegerField(_parameter.label, default=_parameter.default, description=_parameter.hint),
    )


class RolloutForm(StrategyForm):
    """Choose the release, the bots and the strategy of a rollout."""

    release = SelectField("Release", validators=[InputRequired("Choose a release.")])
    audience = RadioField("Bots to update", choices=_choices(_AUDIENCES), default=Audience.AUTOMATIC)
    bots = SelectMultipleField("Selected bots", validators=[Optional()])
    ignore_windows = BooleanField("Ignore update hours and start now")


class AbortForm(Form):
    """Give the reason for aborting a rollout, and choose whether its release is quarantined."""

    reason = StringField("Reason", validators=[DataRequired("Enter a reason."), Length(max=500)])
    quarantine = BooleanField("Quarantine the release, so that it cannot be rolled out again")

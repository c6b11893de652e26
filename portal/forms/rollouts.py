"""Forms to start and abort rollouts. Used by the pages of rollouts and of the fleet's settings."""

from __future__ import annotations

import hashlib
import json
import re
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
from wtforms.validators import DataRequired, InputRequired, Length, ValidationError

from portal.forms.base import Form, strip_whitespace
from portal.models import Audience, Channel
from portal.rules.strategies import PARAMETERS, STRATEGIES, StrategyName

MAX_BOTS = 500
"""Largest number of bots that are chosen one by one."""
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


def split_names(text: str | None) -> list[str]:
    """Split URL names that are separated by commas, spaces or lines."""
    return re.findall(r"[^\s,]+", text or "")


def _limit_bots(_form: Form, field: Field) -> None:
    if len(field.data or []) > MAX_BOTS:
        raise ValidationError(f"Choose at most {MAX_BOTS} bots. For more, narrow down all outdated bots instead.")


class RolloutForm(StrategyForm):
    """Choose the release, the bots and the strategy of a rollout."""

    release = SelectField("Release", validators=[InputRequired("Choose a release.")])
    audience = RadioField("Bots to update", choices=_choices(_AUDIENCES), default=Audience.AUTOMATIC)
    orgs = StringField("Only these organizations", filters=[strip_whitespace], validators=[Length(max=2000)])
    except_orgs = StringField("Not these organizations", filters=[strip_whitespace], validators=[Length(max=2000)])
    labels = StringField("Only bots with a label", filters=[strip_whitespace], validators=[Length(max=2000)])
    nodes = SelectMultipleField("Nodes")
    channels = SelectMultipleField(
        "Channels", choices=[SelectChoice(channel, channel) for channel in Channel if channel is not Channel.PINNED]
    )
    # The bots are on many pages, so their ids are checked when they are loaded.
    bots = SelectMultipleField("Selected bots", choices=[], validate_choice=False, validators=[_limit_bots])
    except_bots = SelectMultipleField("Left out", choices=[], validate_choice=False, validators=[_limit_bots])
    ignore_windows = BooleanField("Ignore update hours and start now")

    def digest(self) -> str:
        """Return a digest of all values. It tells whether a preview shows what would be started."""
        values = {field.name: str(field.data) for field in self}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class AbortForm(Form):
    """Give the reason for aborting a rollout, and choose whether its release is quarantined."""

    reason = StringField("Reason", validators=[DataRequired("Enter a reason."), Length(max=500)])
    quarantine = BooleanField("Quarantine the release, so that it cannot be rolled out again")
